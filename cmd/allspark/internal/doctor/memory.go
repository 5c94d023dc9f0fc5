package doctor

import (
	"fmt"
	"io/fs"
	"math"
	"runtime/metrics"
	"strconv"
	"strings"

	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
)

// Memory is what the process may take, and how Go goes about it.
type Memory struct {
	Machine int64 // bytes
	Group   int64 // bytes that its control groups leave it; 0: no limit
	Swap    int64 // bytes
	Limit   int64 // GOMEMLIMIT in bytes; 0: none
	Percent int64 // GOGC; -1: off
}

func readMemory(root fs.FS, groups cgroups) Memory {
	m := Memory{Group: groups.memory}
	for line := range strings.Lines(text(root, "proc/meminfo")) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "MemTotal":
			m.Machine = kib << 10
		case "SwapTotal":
			m.Swap = kib << 10
		}
	}
	samples := []metrics.Sample{{Name: "/gc/gomemlimit:bytes"}, {Name: "/gc/gogc:percent"}}
	metrics.Read(samples)
	if limit := samples[0].Value.Uint64(); limit < math.MaxInt64 {
		m.Limit = int64(limit)
	}
	m.Percent = int64(samples[1].Value.Uint64()) // off is the largest number
	return m
}

// What a server takes, in bytes, with Go's own settings (bench, idle-10k) and
// much room: while 10,000 connect, resident memory grows by 7 KB for each, of which
// 4 stay when it is quiet; and not all connections do nothing.
const (
	connectionBytes = 16 << 10
	baseBytes       = 128 << 20
	cacheBytes      = 128 << 20 // of the embedded store's; Go does not see it

	// The least of a GOMEMLIMIT that costs little, measured too.
	tightConnectionBytes = 6 << 10
	tightBaseBytes       = 40 << 20
)

// expected is the memory for as many connections as are allowed, and what of
// it is beyond Go's sight.
func expected(c *config.Config) (all, unseen int64) {
	if c.MongoDBURI == "" {
		unseen = cacheBytes
	}
	return baseBytes + unseen + int64(c.MaxConnections)*connectionBytes, unseen
}

// most is what the process may take; 0 when that is not known.
func (m Memory) most() int64 {
	if m.Group > 0 && (m.Machine == 0 || m.Group < m.Machine) {
		return m.Group
	}
	return m.Machine
}

// checkMemory compares what there is with what the connections need.
func checkMemory(f *Facts) []Finding {
	const check = "memory"
	most := f.Memory.most()
	need, unseen := expected(&f.Config)
	switch {
	case most == 0:
		return nil
	case most < need:
		do := "more memory"
		if fit := (most - baseBytes - unseen) / connectionBytes; fit > 0 {
			do += fmt.Sprintf(", or --max-connections %d", fit)
		}
		return []Finding{{
			check, Problem, fmt.Sprintf("%s, and %d idle connections need about %s", size(most), f.Config.MaxConnections, size(need)),
			"A process that takes more is killed, and all its clients go to the other servers at once.", do,
		}}
	case need > most*7/10 && f.Memory.Percent > 50:
		return []Finding{{
			check, Advice, fmt.Sprintf("%s, of which %d idle connections need about %s", size(most), f.Config.MaxConnections, size(need)),
			"It will be enough, but what waits for slow clients comes on top. GOGC=50 saves a fifth while many connect, and a tenth when all is quiet; it makes connecting dearer by a tenth.",
			"GOGC=50 in the environment of serve",
		}}
	}
	return fine(check, "%s, of which %d idle connections need about %s", size(most), f.Config.MaxConnections, size(need))
}

// checkCollector looks at GOMEMLIMIT and GOGC.
func checkCollector(f *Facts) []Finding {
	const check = "garbage collector"
	m := f.Memory
	most := m.most()
	_, unseen := expected(&f.Config)
	right := min(max(most*9/10-unseen, most/2), most-unseen) // a tenth for what grows before Go notices
	set := fmt.Sprintf("GOMEMLIMIT=%dMiB in the environment of serve", right>>20)
	if right < tightBaseBytes {
		set = "more memory"
	}
	forCache := ""
	if unseen > 0 {
		forCache = fmt.Sprintf(", %s of it for the store's cache", size(unseen))
	}
	switch {
	case most == 0:
		return nil
	case m.Percent < 0 && m.Limit == 0:
		return []Finding{{check, Problem, "GOGC=off without GOMEMLIMIT", "Memory is never collected.", set}}
	case m.Limit > 0 && m.Limit > most-unseen:
		return []Finding{{
			check, Problem, fmt.Sprintf("GOMEMLIMIT is %s, but there is %s%s", size(m.Limit), size(most), forCache),
			"The process is killed before Go tries to stay below its limit.", set,
		}}
	case m.Limit > 0 && m.Limit < tightBaseBytes+int64(f.Config.MaxConnections)*tightConnectionBytes:
		return []Finding{{
			check, Advice, fmt.Sprintf("GOMEMLIMIT is %s, little for %d connections", size(m.Limit), f.Config.MaxConnections),
			"Near the limit Go collects all the time, and takes up to half of the processors for it.", set + ", or fewer connections",
		}}
	case m.Limit == 0 && m.Group > 0:
		return []Finding{{
			check, Advice, fmt.Sprintf("GOMEMLIMIT is not set, and the control group ends at %s", size(m.Group)),
			"Go does not know of that limit, and lets garbage grow past it under load.", set,
		}}
	}
	limit := "none"
	if m.Limit > 0 {
		limit = size(m.Limit)
	}
	return fine(check, "GOMEMLIMIT: %s, GOGC: %d", limit, m.Percent)
}

func checkSwap(f *Facts) []Finding {
	const check = "swap"
	switch {
	case f.Memory.Machine == 0:
		return nil
	case f.Memory.Swap > 0:
		return []Finding{{
			check, Advice, size(f.Memory.Swap),
			"A collection touches all memory: a server that is swapped out stands still, and after 8 s others take it for dead.",
			"MemorySwapMax=0 in the systemd unit, or sudo swapoff -a",
		}}
	}
	return fine(check, "none")
}

// CPU is the processors that the process may use.
type CPU struct {
	Machine int     // processors that the kernel gives it
	Quota   float64 // processors' worth of time that its control groups leave it; 0: no limit
	Procs   int     // GOMAXPROCS
}

func checkCPU(f *Facts) []Finding {
	const check = "processors"
	c := f.CPU
	switch {
	case c.Machine == 0:
		return nil
	case c.Quota > 0 && float64(c.Procs) > max(2, math.Ceil(c.Quota)): // two is the least that Go takes by itself
		return []Finding{{
			check, Advice, fmt.Sprintf("GOMAXPROCS is %d, and the control group gives %.1f", c.Procs, c.Quota),
			"What is used up at once is missing for the rest of each 100 ms: latencies of that size.", "unset GOMAXPROCS: Go looks at the control group itself",
		}}
	case c.Quota > 0 && c.Quota < 1:
		return []Finding{{
			check, Advice, fmt.Sprintf("the control group gives %.1f", c.Quota),
			"The server stands still for a part of each 100 ms.", "a CPU limit of 1 or more, or none",
		}}
	case c.Procs < c.Machine && c.Quota == 0:
		return []Finding{{
			check, Advice, fmt.Sprintf("GOMAXPROCS is %d of %d", c.Procs, c.Machine), "The others are not used.", "unset GOMAXPROCS, unless that is meant",
		}}
	}
	return fine(check, "%d", c.Procs)
}
