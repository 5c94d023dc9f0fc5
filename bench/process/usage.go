package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// tick is the unit of CPU times in /proc: USER_HZ is 100 on every architecture
// that Go runs on.
const tick = 10 * time.Millisecond

// Usage is what processes have used.
type Usage struct {
	CPU time.Duration // user and system, in steps of 10 ms
	RSS int64         // bytes of resident memory now
}

// Used returns what processes have used together (proc(5), stat).
func Used(pids ...int) (total Usage, err error) {
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return Usage{}, err
		}
		u, err := parseStat(stat)
		if err != nil {
			return Usage{}, fmt.Errorf("process: %d: %w", pid, err)
		}
		total.CPU += u.CPU
		total.RSS += u.RSS
	}
	return total, nil
}

// Calls returns how many system calls that read or write a process has made so far
// (proc(5), io: syscr and syscw). Those that only wait, or send and receive by other
// names, are not among them.
func Calls(pid int) (n int64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	return parseIO(raw)
}

// Wakeups returns how often threads of a process have waited so far: for input, for
// the disk, for one another (proc(5), status: voluntary_ctxt_switches). Threads that
// have ended do not count any more.
func Wakeups(pid int) (n int64, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		return 0, errors.Join(fmt.Errorf("process: nothing is known of %d", pid), err)
	}
	for _, thread := range threads {
		raw, err := os.ReadFile(thread)
		if errors.Is(err, os.ErrNotExist) {
			continue // has just ended
		}
		if err != nil {
			return 0, err
		}
		waited, err := number(raw, "\nvoluntary_ctxt_switches:")
		if err != nil {
			return 0, err
		}
		n += waited
	}
	return n, nil
}

// number returns what stands behind a name, in a line of its own.
func number(raw []byte, name string) (int64, error) {
	_, rest, ok := bytes.Cut(raw, []byte(name))
	value, _, _ := bytes.Cut(rest, []byte("\n"))
	n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("process: no %q in %q", name, raw)
	}
	return n, nil
}

func parseIO(raw []byte) (n int64, err error) {
	for _, name := range []string{"syscr:", "syscw:"} {
		calls, err := number(raw, name)
		if err != nil {
			return 0, err
		}
		n += calls
	}
	return n, nil
}

// parseStat returns utime and stime, fields 14 and 15, and rss, field 24. The
// second field is the program's name in parentheses, which may hold anything.
func parseStat(stat []byte) (u Usage, err error) {
	const first, utime, stime, rss = 3, 14, 15, 24
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= rss-first {
		return u, fmt.Errorf("no CPU times and memory in %q", stat)
	}
	var n [3]int64
	for i, field := range [...]int{utime, stime, rss} {
		if n[i], err = strconv.ParseInt(string(fields[field-first]), 10, 64); err != nil {
			return u, err
		}
	}
	return Usage{CPU: time.Duration(n[0]+n[1]) * tick, RSS: n[2] * int64(os.Getpagesize())}, nil
}
