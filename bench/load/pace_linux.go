package load

import (
	"syscall"
	"time"
)

// sleepUntil waits for a moment to within some 60 µs. Go's own timers are as
// exact as its poller, a millisecond, on an idle machine.
func sleepUntil(t time.Time) {
	for {
		d := time.Until(t)
		if d <= 0 {
			return
		}
		ts := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&ts, nil) // a signal makes it shorter: once more
	}
}
