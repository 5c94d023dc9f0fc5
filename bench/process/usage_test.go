package process

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	page := int64(os.Getpagesize())
	for _, tt := range []struct {
		in   string
		want Usage
		bad  bool
	}{
		{in: "42 (a) S 1 42 42 0 -1 4194560 1 0 0 0 150 25 7 7 20 0 1 0 99 1000 12 1", want: Usage{1750 * time.Millisecond, 12 * page}},
		{in: "42 (a ) S 9) R) S 1 42 42 0 -1 4194560 1 0 0 0 1 2 7 7 20 0 1 0 99 1000 3", want: Usage{30 * time.Millisecond, 3 * page}},
		{in: "42 (a) S 1 42 42 0 -1 4194560 1 0 0 0 150 25 7 7 20 0 1 0 99 1000", bad: true},
		{in: "42 (a) S 1", bad: true},
		{in: "", bad: true},
		{in: "42 (a) S 1 42 42 0 -1 4194560 1 0 0 0 x 25 7 7 20 0 1 0 99 1000 12 1", bad: true},
	} {
		got, err := parseStat([]byte(tt.in))
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("%q: %v, %v", tt.in, got, err)
		}
	}
}

func TestParseMachine(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Times
		bad  bool
	}{
		{in: "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n", want: Times{360 * time.Millisecond, 80 * time.Millisecond}},
		{in: "cpu  1 2 3 4 5 6 7 8", want: Times{360 * time.Millisecond, 80 * time.Millisecond}},
		{in: "cpu  1 2 3 4 5 6 7\n", bad: true},
		{in: "cpu  1 2 3 4 x 6 7 8\n", bad: true},
		{in: "cpu0 1 2 3 4 5 6 7 8\n", bad: true},
		{in: "", bad: true},
	} {
		got, err := parseMachine([]byte(tt.in))
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("%q: %v, %v", tt.in, got, err)
		}
	}
}

func TestParseIO(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int64
		bad  bool
	}{
		{in: "rchar: 9\nwchar: 9\nsyscr: 40\nsyscw: 2\nread_bytes: 0\n", want: 42},
		{in: "syscr: 40\n", bad: true},
		{in: "syscr: x\nsyscw: 2\n", bad: true},
		{in: "", bad: true},
	} {
		if got, err := parseIO([]byte(tt.in)); got != tt.want || (err != nil) != tt.bad {
			t.Errorf("%q: %v, %v", tt.in, got, err)
		}
	}
}

func TestWakeups(t *testing.T) {
	before, err := Wakeups(os.Getpid())
	if err != nil {
		t.Skip(err)
	}
	const waits = 20
	for range waits {
		<-time.After(time.Millisecond)
	}
	after, err := Wakeups(os.Getpid())
	if err != nil || after < before+waits/2 {
		t.Errorf("%d to %d, %v", before, after, err)
	}
	if _, err := Wakeups(-1); err == nil {
		t.Error("wake-ups of nobody")
	}
}

func TestOwnUsage(t *testing.T) {
	before, err := Used(os.Getpid())
	if err != nil {
		t.Skip(err)
	}
	for spin := time.Now(); time.Since(spin) < 100*time.Millisecond; {
	}
	after, err := Used(os.Getpid())
	if err != nil || after.CPU <= before.CPU || after.RSS < 1<<20 {
		t.Errorf("%v to %v, %v", before, after, err)
	}
}
