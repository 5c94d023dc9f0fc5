//go:build !linux

package load

import "time"

// sleepUntil waits for a moment.
func sleepUntil(t time.Time) { time.Sleep(time.Until(t)) }
