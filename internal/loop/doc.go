// Package loop holds WebSocket connections that cost no goroutine and no
// buffer while nothing comes in.
//
// A [Conn] stands between the network and a WebSocket library that knows
// nothing of it. Few goroutines wait for all connections at once (epoll). When
// whole messages have come in, one of them calls the connection's owner, who
// reads them, or has the library do so, until [Conn.Read] says [ErrNothing]; the
// library sees that only between messages, where it harms nothing. What does not
// come whole, because it is large or in fragments, is read by a goroutine of its
// own that waits as any reader does.
//
// Messages are read and written past the library, see [Conn.Text] and
// [Conn.Message], and so are pings, whose answers call nobody, see [Conn.Ping]:
// it is needed for all else that RFC 6455 knows.
//
// It is there on Linux. Elsewhere [New] says so, and connections are read and
// written by goroutines.
package loop

import (
	"errors"
	"time"
)

var (
	// ErrNothing says that no whole message is there to be read now.
	ErrNothing = errors.New("loop: no whole message is there")
	// ErrOther says that something else than a message of text in one frame comes next.
	ErrOther = errors.New("loop: what comes next is for the library")
	// ErrUnsupported says that there are no loops on this system.
	ErrUnsupported = errors.New("loop: not on this system")
)

// Config says what is done around the work of a loop. Both may be nil.
type Config struct {
	// Begin and End are called before and after connections with input are
	// handled, by each loop for itself and from any goroutine: what is written
	// in between may go out together.
	Begin, End func()

	turn time.Duration // for tests; see longTurn
}

// Sizes.
const (
	// maxWhole is the largest frame that is awaited in memory, in bytes: what
	// has come of it is kept until the rest has. Larger ones are read as they come.
	maxWhole = 64 << 10
	// inputSize is what a loop reads at once, in bytes, beside a frame that has
	// come in part.
	inputSize = 64 << 10
	// maxOwed bounds what control frames may leave unwritten, in bytes: a client
	// that asks for answers and does not read them loses the connection.
	maxOwed = 16 << 10
)
