// Package doctor looks at the machine and the configuration as a server would
// find them, and says what to change.
//
// [Read] collects facts and judges nothing; [Examine] judges facts and touches
// nothing.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
)

// Level says how bad a finding is.
type Level string

const (
	Fine    Level = "ok"
	Advice  Level = "advice"  // it could be better
	Problem Level = "problem" // it will hurt
)

func (l Level) rank() int { return slices.Index([]Level{Problem, Advice, Fine}, l) }

// Finding is what one check has to say.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	Found string `json:"found"`
	Why   string `json:"why,omitempty"` // none for what is fine
	Do    string `json:"do,omitempty"`  // a command, or where to change what
}

// Facts are what is known about the machine and the configuration. What is not
// known is zero, and nothing is said about it.
type Facts struct {
	Config    config.Config
	Problems  config.Problems // of the configuration
	OpenFiles uint64          // descriptors that this process may have
	Kernel    Kernel
	Memory    Memory
	CPU       CPU
	Clock     Clock
	Disk      Disk
	Database  Database
	Certs     []Cert
	Addresses []Address
}

// Read collects the facts. It writes a file into the data directory and removes
// it, opens the server's ports for a moment, dials the addresses that it will
// advertise and those of the others, and asks the database who it is.
func Read(ctx context.Context, cfg config.Config, problems config.Problems) *Facts {
	root := os.DirFS("/")
	groups := readCgroups(root)
	f := &Facts{
		Config: cfg, Problems: problems,
		OpenFiles: readOpenFiles(),
		Kernel:    readKernel(root),
		Memory:    readMemory(root, groups),
		CPU:       CPU{Machine: runtime.NumCPU(), Quota: groups.cpus, Procs: runtime.GOMAXPROCS(0)},
		Clock:     readClock(root),
		Certs:     readCerts(&cfg),
	}
	var waiting sync.WaitGroup
	if cfg.MongoDBURI != "" {
		waiting.Go(func() { f.Database = readDatabase(ctx, cfg.MongoDBURI) })
	} else if cfg.Data != "" {
		waiting.Go(func() { f.Disk = readDisk(cfg.Data) })
	}
	waiting.Go(func() { f.Addresses = readAddresses(ctx, &cfg) })
	waiting.Wait()
	return f
}

// Examine judges the facts: what is worst comes first.
func Examine(f *Facts) []Finding {
	var all []Finding
	for _, check := range []func(*Facts) []Finding{
		checkConfig, checkOpenFiles, checkBacklog, checkPorts, checkSocketMemory, checkConntrack,
		checkMemory, checkCollector, checkSwap, checkHugepages, checkCPU, checkClock,
		checkDisk, checkSync, checkDatabase, checkCerts, checkAddresses, checkProxy,
	} {
		all = append(all, check(f)...)
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return cmp.Compare(a.Level.rank(), b.Level.rank()) })
	return all
}

func checkConfig(f *Facts) (found []Finding) {
	for _, p := range f.Problems {
		found = append(found, Finding{"configuration", Problem, p.Error(), "The server does not start.", "allspark config print"})
	}
	return found
}

// fine is the finding of a check that has nothing to complain of.
func fine(check, format string, args ...any) []Finding {
	return []Finding{{Check: check, Level: Fine, Found: fmt.Sprintf(format, args...)}}
}

// size tells bytes to people.
func size[T int64 | uint64](bytes T) string {
	switch n := float64(bytes); {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", n/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", n/(1<<20))
	default:
		return fmt.Sprintf("%.0f KiB", n/(1<<10))
	}
}
