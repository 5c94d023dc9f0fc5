//go:build unix

package load

import "syscall"

// descriptors returns how many files this process may have open, and with it
// those that it starts.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1 << 30
	}
	return int(min(limit.Cur, 1<<30))
}
