package main

import (
	"fmt"
	"runtime/debug"
)

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(sys *system) error {
	_, err := fmt.Fprintln(sys.stdout, "allspark", version())
	return err
}

// version returns the version that the Go tool put into the binary: a tag, or
// a commit with its date and "+dirty" when the tree had changes.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(unknown)"
	}
	return info.Main.Version + " " + info.GoVersion
}
