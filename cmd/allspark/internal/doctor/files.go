package doctor

import (
	"fmt"
	"log/slog"

	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
)

// spareFiles are the descriptors that a server needs beside its connections:
// for calls and handshakes (1,000), the files of the store (1,000), links to other
// servers and to the database.
const spareFiles = 2500

// checkOpenFiles compares what the process may open with what it may have to.
// Go programs raise the soft limit to the hard one when they start, so that is
// the one that counts.
func checkOpenFiles(f *Facts) []Finding {
	const check = "open files"
	need := uint64(f.Config.MaxConnections) + spareFiles
	found := openFiles(f.OpenFiles, f.Config.MaxConnections)
	if most := f.Kernel.FileMax; most > 0 && uint64(most) < need {
		found = append(found, Finding{
			check, Problem, fmt.Sprintf("the whole machine may have %d open, %d connections need %d", most, f.Config.MaxConnections, need),
			"Without a descriptor a client is not even told that it is refused.", sysctl("fs.file-max", int64(2*need)),
		})
	}
	return found
}

func openFiles(limit uint64, connections int) []Finding {
	const check = "open files"
	need := uint64(connections) + spareFiles
	switch {
	case limit == 0:
		return nil
	case limit >= need:
		return fine(check, "up to %d, enough for %d connections", limit, connections)
	}
	do := fmt.Sprintf("LimitNOFILE=%d in the systemd unit, or ulimit -Hn %[1]d", need)
	if limit > spareFiles {
		do += fmt.Sprintf("; or --max-connections %d", limit-spareFiles)
	}
	return []Finding{{
		check, Problem, fmt.Sprintf("up to %d, and %d connections need %d", limit, connections, need),
		"Without a descriptor a client is not even told that it is refused, and the store cannot open its files.", do,
	}}
}

// WarnOpenFiles logs a warning when the process may not open as many files as
// its connections may need.
func WarnOpenFiles(cfg *config.Config, log *slog.Logger) {
	for _, f := range openFiles(readOpenFiles(), cfg.MaxConnections) {
		if f.Level == Problem {
			log.Warn("too few open files are allowed", "found", f.Found, "do", f.Do)
		}
	}
}
