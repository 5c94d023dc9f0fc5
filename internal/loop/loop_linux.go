package loop

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxEvents is how many connections are looked at in one round.
	maxEvents = 128
	// patience is how long the owner of one connection may keep the others of
	// its loop waiting. Then, or after as long again, another goroutine goes on with them.
	patience = 5 * time.Millisecond
	// longTurn is how long a leader may find events at once before it gives way.
	longTurn = 500 * time.Microsecond
)

// Loops wait for the input of connections. It is safe for concurrent use.
type Loops struct {
	of   []*loop
	next atomic.Uint32 // the loop that gets the next connection
}

// New starts loops: one for each processor. [Loops.Close] ends them.
func New(cfg Config) (*Loops, error) {
	l := new(Loops)
	for range runtime.GOMAXPROCS(0) {
		one, err := newLoop(cfg)
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("loop: %w", err)
		}
		l.of = append(l.of, one)
		go one.lead(0)
	}
	return l, nil
}

// Close ends the loops. Connections hear nothing any more; close them first.
func (l *Loops) Close() {
	if l == nil {
		return
	}
	for _, one := range l.of {
		one.close()
	}
}

// Take takes a network connection over; early is what was read of it already.
// The connection given is closed, its descriptor lives on in the one returned.
// On an error it is as it was.
func (l *Loops) Take(from *net.TCPConn, early []byte) (*Conn, error) {
	raw, err := from.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var dup error
	// A duplicate leaves Go's own poller with its descriptor; it would wake up
	// for each packet as well.
	if err := raw.Control(func(of uintptr) { fd, dup = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dup != nil {
		return nil, os.NewSyscallError("fcntl", dup)
	}
	at := l.of[l.next.Add(1)%uint32(len(l.of))]
	c := newConn(at, fd, early)
	if err := at.add(c); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	_ = from.Close()
	return c, nil
}

// loop waits for its connections with one goroutine at a time, the leader. When
// the owner of a connection blocks in it, another becomes leader and goes on with
// the round; the old one ends when it comes back.
type loop struct {
	// static after construction
	cfg  Config
	file *os.File // of the epoll set, in Go's own poller: a thread blocked in epoll_wait costs more
	raw  syscall.RawConn
	fd   int

	term  atomic.Uint64 // of the leader
	taken atomic.Uint64 // events taken, ever

	watch *time.Timer           // runs once a round has an owner's work to watch, and may outlast it
	poll  func(fd uintptr) bool // fills events, if there are any

	// only the leader between rounds
	events [maxEvents]unix.EpollEvent
	came   int       // so many of events
	waited bool      // the leader had to wait for them
	busy   time.Time // since when it has not had to; zero: not long
	failed error     // why there will be none

	mu         sync.Mutex
	conns      map[int32]*Conn   // guarded by mu; by descriptor
	closed     bool              // guarded by mu; fd may be of something else
	generation int32             // guarded by mu; of the connection added last
	round      []unix.EpollEvent // guarded by mu; what is left of events
	working    bool              // guarded by mu; within a round
	watching   bool              // guarded by mu; there is work in this round that may take long
	watched    uint64            // guarded by mu; taken when watch looked last, 0: not since then
	ticking    bool              // guarded by mu; watch runs
}

func newLoop(cfg Config) (*loop, error) {
	cfg.turn = cmp.Or(cfg.turn, longTurn)
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	l := &loop{cfg: cfg, file: os.NewFile(uintptr(fd), "epoll"), fd: fd, conns: make(map[int32]*Conn)}
	if l.raw, err = l.file.SyscallConn(); err != nil {
		_ = l.file.Close()
		return nil, err
	}
	l.poll = func(fd uintptr) bool {
		for {
			l.came, l.failed = unix.EpollWait(int(fd), l.events[:], 0)
			if !errors.Is(l.failed, unix.EINTR) {
				l.waited = l.waited || l.came == 0
				return l.came != 0
			}
		}
	}
	l.watch = time.AfterFunc(time.Hour, l.look)
	l.watch.Stop()
	return l, nil
}

func (l *loop) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	_ = l.file.Close()
}

// add has the loop wait for a connection. Events are edge triggered: one for
// what comes in, and one when there is room again after there was none.
func (l *loop) add(c *Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.generation++
	c.generation = l.generation
	l.conns[int32(c.fd)] = c
	err := unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(c.fd), Pad: c.generation,
	})
	if err != nil {
		delete(l.conns, int32(c.fd))
		return os.NewSyscallError("epoll_ctl", err)
	}
	return nil
}

// remove forgets a connection whose descriptor is about to be closed, which
// takes it out of the epoll set.
func (l *loop) remove(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, int32(c.fd))
}

// lead does the leader's work until the term is over.
func (l *loop) lead(term uint64) {
	in := inputs.Get().(*input)
	defer inputs.Put(in)
	for l.term.Load() == term {
		c, what, ok := l.take(term)
		if c != nil {
			c.handle(what, in)
		}
		if !ok && !l.wait(term) {
			return
		}
	}
}

// take takes the next event of the round. It reports false when there is none,
// and has then ended the round.
func (l *loop) take(term uint64) (c *Conn, what uint32, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term.Load() != term { // somebody else goes on with the round
		return nil, 0, true
	}
	if len(l.round) == 0 {
		if l.working {
			l.working, l.watching = false, false
			if l.cfg.End != nil {
				l.mu.Unlock()
				l.cfg.End()
				l.mu.Lock()
			}
		}
		return nil, 0, false
	}
	event := l.round[0]
	l.round = l.round[1:]
	l.taken.Add(1)
	if c = l.conns[event.Fd]; c != nil && c.generation != event.Pad {
		c = nil // of a connection that had the descriptor before
	}
	return c, event.Events, true
}

// wait waits for events and begins a round. It reports false when the loop is
// closed.
func (l *loop) wait(term uint64) bool {
	l.giveWay()
	l.waited = false
	if err := l.raw.Read(l.poll); err != nil || l.failed != nil {
		return false
	}
	if l.cfg.Begin != nil {
		l.cfg.Begin()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.round, l.working = l.events[:l.came], true
	return true
}

// giveWay leaves the processor to who else is ready to run, the leader of another loop
// perhaps, when the leader has not waited for long. Without that it goes on until it is
// preempted after 10 ms. To give way each time would wake up a processor that is idle
// each time.
func (l *loop) giveWay() {
	switch {
	case l.waited:
		l.busy = time.Time{}
	case l.busy.IsZero():
		l.busy = time.Now()
	case time.Since(l.busy) >= l.cfg.turn:
		runtime.Gosched()
		l.busy = time.Time{}
	}
}

// attend watches over the rest of the round: an owner is about to work. The timer is
// not set and stopped for each round, which may wake up a thread and would cost as
// much as relaying a message; it goes on until it finds nobody at work.
func (l *loop) attend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watching || !l.working {
		return
	}
	l.watching, l.watched = true, 0
	if !l.ticking {
		l.ticking = true
		l.watch.Reset(patience)
	}
}

// look has another goroutine lead when the leader does not get on.
func (l *loop) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ticking = l.watching; !l.ticking {
		return
	}
	if taken := l.taken.Load(); taken != l.watched {
		l.watched = taken
	} else {
		go l.lead(l.term.Add(1))
	}
	l.watch.Reset(patience)
}

// input is what a leader reads into.
type input struct{ buf [inputSize + maxWhole]byte }

var inputs = sync.Pool{New: func() any { return new(input) }}
