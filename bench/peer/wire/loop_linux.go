package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/allsparkrt/allspark/bench/peer/internal/epoll"
)

// Loop reads connections. Its methods are safe for concurrent use.
type Loop struct {
	shards []*shard
	next   atomic.Uint64
}

// NewLoop starts n goroutines that share the connections.
func NewLoop(n int) (*Loop, error) {
	l := new(Loop)
	for range n {
		s, err := newShard()
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.shards = append(l.shards, s)
	}
	return l, nil
}

// Add takes a TCP connection over. reader is called once, before Add returns,
// with what is to be written to; early is what has been read already.
func (l *Loop) Add(nc net.Conn, early []byte, reader func(*Conn) Reader) (*Conn, error) {
	return l.shards[l.next.Add(1)%uint64(len(l.shards))].add(nc, early, reader)
}

// Close closes all connections and returns when nothing is called any more.
// It must not be called by a Reader.
func (l *Loop) Close() error {
	var errs []error
	for _, s := range l.shards {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// shard is one set of connections and the goroutine that waits for it.
type shard struct {
	// Static.
	set  *epoll.Set
	done sync.WaitGroup

	mu     sync.Mutex
	conns  map[uint64]*Conn
	last   uint64 // id of a connection; descriptors are used again, these are not
	closed bool
}

func newShard() (*shard, error) {
	set, err := epoll.New()
	if err != nil {
		return nil, err
	}
	s := &shard{set: set, conns: make(map[uint64]*Conn)}
	s.done.Go(s.run)
	return s, nil
}

func (s *shard) add(nc net.Conn, early []byte, reader func(*Conn) Reader) (*Conn, error) {
	fd, err := duplicate(nc)
	if err != nil {
		return nil, err
	}
	c := &Conn{fd: fd, shard: s}
	c.reader = reader(c)
	if len(early) > 0 {
		used, err := c.reader.Read(early)
		if err != nil {
			return nil, errors.Join(err, syscall.Close(fd))
		}
		c.in = append(c.in, early[used:]...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.Join(ErrClosed, syscall.Close(fd))
	}
	s.last++
	c.id = s.last
	if err := s.set.Add(fd, c.id, epoll.Both); err != nil {
		return nil, errors.Join(err, syscall.Close(fd))
	}
	s.conns[c.id] = c
	return c, nil
}

// duplicate takes the descriptor of a connection away from Go's poller, which
// would otherwise be woken for it as well.
func duplicate(nc net.Conn) (fd int, err error) {
	defer nc.Close()
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("wire: a %T has no descriptor", nc)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var errno syscall.Errno
	err = raw.Control(func(old uintptr) {
		var got uintptr
		got, _, errno = syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0)
		fd = int(got)
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return fd, err
}

func (s *shard) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	err := s.set.Close() // ends run
	s.done.Wait()
	return err
}

// run reads what there is to read until the shard is closed.
func (s *shard) run() {
	buf := make([]byte, 256<<10) // shared: bytes stay in a connection only when a message is not whole
	for {
		events, err := s.set.Wait()
		if err != nil {
			break
		}
		for _, e := range events {
			s.mu.Lock()
			c := s.conns[e.ID]
			s.mu.Unlock()
			if c != nil {
				c.ready(e.What, buf)
			}
		}
	}
	for _, c := range s.conns { // nobody adds any more
		c.end(ErrClosed)
	}
}

// Conn is one TCP connection. Its methods are safe for concurrent use.
type Conn struct {
	// Static.
	fd     int
	id     uint64
	shard  *shard
	reader Reader

	// Only the shard's goroutine.
	in []byte // the beginning of a message

	mu      sync.Mutex
	out     []byte // not written yet
	closing bool   // by this side
	closed  bool   // the descriptor is no longer ours
}

// Write has add append bytes to what is to be written, and writes what the
// socket takes; the loop writes the rest. It never waits.
func (c *Conn) Write(add func(out []byte) []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed || c.closing:
		return ErrClosed
	case len(c.out) > MaxQueued:
		return ErrFull
	}
	waiting := len(c.out) > 0
	c.out = add(c.out)
	if waiting {
		return nil
	}
	return c.flush()
}

// flush writes what the socket takes. The caller holds mu, or bytes of two
// writers could change places; the write does not wait.
func (c *Conn) flush() error {
	done := 0
	for done < len(c.out) {
		n, err := syscall.Write(c.fd, c.out[done:])
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			c.out = append(c.out[:0], c.out[done:]...)
			return nil
		case err != nil:
			c.out = nil
			return err
		default:
			done += n
		}
	}
	c.out = emptied(c.out)
	return nil
}

// Close closes the connection; what is queued is lost. The Reader may still be
// in a call, but is told nothing afterwards.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.closing {
		return nil
	}
	c.closing = true
	// The loop closes the descriptor, which it may just be reading.
	return syscall.Shutdown(c.fd, syscall.SHUT_RDWR)
}

// ready handles what the kernel reports.
func (c *Conn) ready(events uint32, buf []byte) {
	if events&epoll.Out != 0 {
		c.mu.Lock()
		var err error
		if len(c.out) > 0 {
			err = c.flush()
		}
		c.mu.Unlock()
		if err != nil {
			c.end(err)
			return
		}
	}
	if events&^epoll.Out == 0 {
		return
	}
	if err := c.drain(events, buf); err != nil {
		c.end(err)
	}
}

// drain reads until there is nothing more.
func (c *Conn) drain(events uint32, buf []byte) error {
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
		// Less than there was room for: it was all, and more would be reported
		// again. But the end has been reported already.
		if n < len(buf) && events&epoll.Ended == 0 {
			return nil
		}
	}
}

// take hands bytes to the reader and keeps what it does not use.
func (c *Conn) take(b []byte) error {
	c.mu.Lock()
	closing := c.closing
	c.mu.Unlock()
	if closing {
		return ErrClosed
	}
	if len(c.in) > 0 {
		c.in = append(c.in, b...)
		b = c.in
	}
	used, err := c.reader.Read(b)
	if err != nil {
		return err
	}
	if rest := b[used:]; len(rest) > 0 {
		c.in = append(c.in[:0], rest...)
	} else {
		c.in = emptied(c.in)
	}
	return nil
}

// end closes the descriptor; only the shard's goroutine.
func (c *Conn) end(why error) {
	c.shard.mu.Lock()
	delete(c.shard.conns, c.id)
	c.shard.mu.Unlock()
	c.mu.Lock()
	told := c.closing
	c.closed, c.out = true, nil
	_ = syscall.Close(c.fd) // nothing is left to be lost
	c.mu.Unlock()
	if !told {
		c.reader.Closed(why)
	}
}
