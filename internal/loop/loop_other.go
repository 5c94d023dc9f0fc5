//go:build !linux

package loop

import "net"

// Loops wait for the input of connections; not on this system.
type Loops struct{}

// New says that there are none.
func New(Config) (*Loops, error) { return nil, ErrUnsupported }

// Close does nothing.
func (*Loops) Close() {}

// Take says that there are none.
func (*Loops) Take(*net.TCPConn, []byte) (*Conn, error) { return nil, ErrUnsupported }

// Conn is a network connection of a loop. There is never one.
type Conn struct{ net.Conn }

// Watch is never called, and nor is what follows.
func (*Conn) Watch(func(inline bool) (kept bool)) {}

func (*Conn) Await() bool           { return false }
func (*Conn) Keep()                 {}
func (*Conn) Empty() bool           { return false }
func (*Conn) Block()                {}
func (*Conn) Text() ([]byte, error) { return nil, ErrOther }
func (*Conn) Heard() uint32         { return 0 }
func (*Conn) Ping() (uint32, bool)  { return 0, false }
func (*Conn) Cork()                 {}
func (*Conn) Message([]byte) bool   { return false }
func (*Conn) Uncork() (int, error)  { return 0, ErrUnsupported }
func (*Conn) Drain() (int, error)   { return 0, ErrUnsupported }
