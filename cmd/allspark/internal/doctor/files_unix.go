//go:build unix

package doctor

import "golang.org/x/sys/unix"

// readOpenFiles returns how many descriptors this process may have; 0 when that is not known.
func readOpenFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return uint64(limit.Cur) // signed on some systems
}
