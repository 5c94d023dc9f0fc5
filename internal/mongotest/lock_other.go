//go:build !unix

package mongotest

// lock does nothing where there is no flock: at worst the work is done twice.
func lock(string) (unlock func(), err error) { return func() {}, nil }
