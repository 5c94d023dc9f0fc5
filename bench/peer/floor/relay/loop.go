//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/allsparkrt/allspark/bench/peer/internal/epoll"
)

// maxOut is how much is kept for a client that does not read; then it is closed.
const maxOut = 64 << 20

// keepBuffer is how much of an empty buffer a connection keeps.
const keepBuffer = 4 << 10

// loop is one goroutine that serves all connections: it handles all that has
// come, makes durable messages safe with one fdatasync, and writes to each
// connection once.
type loop struct {
	framing framing
	relay   relay[*conn]
	set     *epoll.Set // by descriptor
	file    *os.File   // the listening socket; closed when nothing points to it
	listen  int        // its descriptor
	conns   map[int]*conn
	dirty   []*conn // have something to write
	to      []*conn // of one message
	log     *os.File
	logged  []byte // not in the log yet
}

// conn is one connection.
type conn struct {
	loop   *loop
	fd     int
	open   bool   // its beginning has been handled
	in     []byte // the beginning of a message
	out    []byte // not written yet
	dirty  bool
	user   string
	topics []string
}

func (c *conn) send(kind byte, body []byte) {
	c.out = c.loop.framing.append(c.out, kind, body)
	c.touch()
}

// touch has the loop write what is in out.
func (c *conn) touch() {
	if !c.dirty {
		c.dirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
}

// serveLoop serves until the process is ended.
func serveLoop(address, log string, f framing) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	if err := listener.Close(); err != nil { // Go's own poller is not to accept
		return err
	}
	l := &loop{framing: f, relay: newRelay[*conn](), file: file, listen: int(file.Fd()), conns: make(map[int]*conn)}
	if err := syscall.SetNonblock(l.listen, true); err != nil {
		return err
	}
	if l.set, err = epoll.New(); err != nil {
		return err
	}
	if log != "" {
		if l.log, err = os.Create(log); err != nil {
			return err
		}
	}
	if err := l.set.Add(l.listen, uint64(l.listen), epoll.In); err != nil {
		return err
	}
	return l.run()
}

func (l *loop) run() error {
	buf := make([]byte, 256<<10)
	for {
		events, err := l.set.Wait()
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := l.event(e, buf); err != nil {
				return err
			}
		}
		if err := l.commit(); err != nil {
			return err
		}
		for _, c := range l.dirty {
			c.dirty = false
			if err := c.flush(); err != nil {
				l.drop(c)
			}
		}
		clear(l.dirty)
		l.dirty = l.dirty[:0]
	}
}

func (l *loop) event(e epoll.Event, buf []byte) error {
	if int(e.ID) == l.listen {
		return l.accept()
	}
	c := l.conns[int(e.ID)]
	if c == nil {
		return nil // dropped in this round
	}
	if e.What&epoll.Out != 0 && len(c.out) > 0 {
		c.touch()
	}
	if e.What&^epoll.Out == 0 {
		return nil
	}
	if err := c.read(buf); err != nil {
		l.drop(c)
	}
	return nil
}

func (l *loop) accept() error {
	for {
		fd, _, err := syscall.Accept4(l.listen, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return nil
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.ECONNABORTED):
			continue
		case err != nil:
			return fmt.Errorf("relay: %w", err)
		}
		if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
			return err
		}
		if err := l.set.Add(fd, uint64(fd), epoll.Both); err != nil {
			return err
		}
		_, isWebSocket := l.framing.(webSocket)
		l.conns[fd] = &conn{loop: l, fd: fd, open: !isWebSocket}
	}
}

func (l *loop) drop(c *conn) {
	if l.conns[c.fd] != c {
		return
	}
	delete(l.conns, c.fd)
	l.relay.leave(c, c.user, c.topics)
	_ = syscall.Close(c.fd) // nothing is left to be lost
}

// commit makes durable messages safe, before anybody hears of them.
func (l *loop) commit() error {
	if len(l.logged) == 0 {
		return nil
	}
	_, err := l.log.Write(l.logged)
	l.logged = l.logged[:0]
	return errors.Join(err, syscall.Fdatasync(int(l.log.Fd())))
}

// read handles all that there is.
func (c *conn) read(buf []byte) error {
	for {
		n, err := syscall.Read(c.fd, buf)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return nil
		case err != nil:
			return err
		case n == 0:
			return io.EOF
		}
		if err := c.take(buf[:n]); err != nil {
			return err
		}
	}
}

func (c *conn) take(b []byte) error {
	if len(c.in) > 0 {
		c.in = append(c.in, b...)
		b = c.in
	}
	used := 0
	if !c.open {
		answer, n, err := c.loop.framing.open(b)
		if err != nil {
			return err
		}
		if n > 0 {
			c.open, used = true, n
			c.out = append(c.out, answer...)
			c.touch()
		}
	}
	for c.open {
		message, size, err := c.loop.framing.next(b[used:])
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		used += size
		if err := c.handle(message); err != nil {
			return err
		}
	}
	if used == len(b) {
		c.in = emptied(c.in)
	} else {
		c.in = append(c.in[:0], b[used:]...)
	}
	return nil
}

func (c *conn) handle(raw []byte) error {
	l := c.loop
	m, err := parse(raw)
	if err != nil {
		return err
	}
	switch m.kind {
	case hello:
		if c.user != "" {
			return errMessage
		}
		c.user, c.topics = string(m.to), strings.Fields(string(m.body))
		l.relay.join(c, c.user, c.topics)
		c.send(joined, nil)
		return nil
	case durable:
		if l.log == nil {
			return errMessage
		}
		l.logged = append(append(l.logged, raw...), '\n')
		c.send(accepted, m.tag)
	}
	l.to = l.relay.recipients(l.to[:0], m)
	for _, other := range l.to {
		other.send(delivery, m.body)
	}
	return nil
}

// flush writes what the socket takes.
func (c *conn) flush() error {
	done := 0
	for done < len(c.out) {
		n, err := syscall.Write(c.fd, c.out[done:])
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			c.out = append(c.out[:0], c.out[done:]...)
			if len(c.out) > maxOut {
				return errors.New("relay: a client does not read")
			}
			return nil
		case err != nil:
			return err
		default:
			done += n
		}
	}
	c.out = emptied(c.out)
	return nil
}

func emptied(b []byte) []byte {
	if cap(b) > keepBuffer {
		return nil
	}
	return b[:0]
}
