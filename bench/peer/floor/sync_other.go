//go:build !linux

package floor

import "os"

func dataSync(f *os.File) error { return f.Sync() }
