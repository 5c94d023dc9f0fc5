// Package wire reads and writes many TCP connections at little cost: on Linux
// a few goroutines wait for all of them, elsewhere one for each. An idle
// connection costs a few hundred bytes.
package wire

import "errors"

// Reader takes the bytes of one connection, called by one goroutine at a time.
type Reader interface {
	// Read uses the whole messages at the beginning of in and returns how many
	// bytes these are; the rest comes again with more behind it. in is valid
	// until Read returns. After an error the connection is closed.
	Read(in []byte) (used int, err error)
	// Closed is called once, after the last Read, unless Close was called.
	Closed(err error)
}

// MaxQueued is how many bytes a connection queues for a server that does not
// read; what comes then is refused with [ErrFull].
const MaxQueued = 64 << 20

var (
	// ErrFull means that the server has not read for long.
	ErrFull = errors.New("wire: too much is queued")
	// ErrClosed means that the connection or the loop has been closed.
	ErrClosed = errors.New("wire: closed")
)

// keepBuffer is how much of an empty buffer a connection keeps.
const keepBuffer = 4 << 10

// emptied returns a buffer for what comes next, in place of one that is empty.
func emptied(b []byte) []byte {
	if cap(b) > keepBuffer {
		return nil
	}
	return b[:0]
}
