package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Times is what the processors of this machine have spent their time with, all of them
// together, since it was started.
type Times struct {
	All    time.Duration // idle included
	Stolen time.Duration // a virtual machine's: its host ran others, though there was something to do
}

// MachineTimes reads that (proc(5), /proc/stat), in steps of 10 ms.
func MachineTimes() (Times, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Times{}, err
	}
	return parseMachine(raw)
}

// parseMachine reads the first line: user, nice, system, idle, iowait, irq, softirq,
// steal; what follows, the time of guests, is in user and nice already.
func parseMachine(raw []byte) (t Times, err error) {
	const kinds, stolen = 8, 7
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) <= kinds || string(fields[0]) != "cpu" {
		return t, fmt.Errorf("process: no times of processors in %q", line)
	}
	for i, field := range fields[1 : kinds+1] {
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return Times{}, fmt.Errorf("process: %w in %q", err, line)
		}
		t.All += time.Duration(n) * tick
		if i == stolen {
			t.Stolen = time.Duration(n) * tick
		}
	}
	return t, nil
}
