//go:build !linux

package wire

import (
	"errors"
	"net"
	"sync"
)

// Loop reads connections. Its methods are safe for concurrent use.
type Loop struct {
	done sync.WaitGroup

	mu     sync.Mutex
	conns  map[*Conn]struct{}
	closed bool
}

// NewLoop returns a loop; there is a goroutine for each connection, whatever n.
func NewLoop(int) (*Loop, error) { return &Loop{conns: make(map[*Conn]struct{})}, nil }

// Add takes a TCP connection over. reader is called once, before Add returns,
// with what is to be written to; early is what has been read already.
func (l *Loop) Add(nc net.Conn, early []byte, reader func(*Conn) Reader) (*Conn, error) {
	c := &Conn{nc: nc}
	c.reader = reader(c)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.Join(ErrClosed, nc.Close())
	}
	l.conns[c] = struct{}{}
	l.done.Go(func() {
		c.read(early)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, c)
	})
	return c, nil
}

// Close closes all connections and returns when nothing is called any more.
// It must not be called by a Reader.
func (l *Loop) Close() error {
	l.mu.Lock()
	l.closed = true
	for c := range l.conns {
		_ = c.nc.Close() // its reader is told
	}
	l.mu.Unlock()
	l.done.Wait()
	return nil
}

// Conn is one TCP connection. Its methods are safe for concurrent use.
type Conn struct {
	// Static.
	nc     net.Conn
	reader Reader

	writing sync.Mutex // one writer at a time
	out     []byte

	mu      sync.Mutex
	closing bool // by this side
}

// Write has add append bytes to what is to be written, and writes them.
func (c *Conn) Write(add func(out []byte) []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.out = add(c.out[:0])
	_, err := c.nc.Write(c.out)
	c.out = emptied(c.out)
	return err
}

// Close closes the connection; what is queued is lost. The Reader may still be
// in a call, but is told nothing afterwards.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	return c.nc.Close()
}

func (c *Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

func (c *Conn) read(in []byte) {
	err := c.readAll(in)
	_ = c.nc.Close()
	if !c.isClosing() {
		c.reader.Closed(err)
	}
}

func (c *Conn) readAll(in []byte) error {
	buf := make([]byte, 4<<10)
	for {
		if len(in) > 0 && !c.isClosing() {
			used, err := c.reader.Read(in)
			if err != nil {
				return err
			}
			in = append(in[:0], in[used:]...)
		}
		n, err := c.nc.Read(buf)
		if err != nil {
			return err
		}
		in = append(in, buf[:n]...)
	}
}
