package floor

import (
	"os"
	"syscall"
)

// dataSync is fdatasync(2).
func dataSync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
