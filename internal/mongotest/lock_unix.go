//go:build unix

package mongotest

import (
	"os"
	"syscall"
)

// lock waits until no other process holds the lock on the file.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err == nil {
			return func() { _ = f.Close() }, nil // which releases it
		}
		if err != syscall.EINTR {
			_ = f.Close()
			return nil, err
		}
	}
}
