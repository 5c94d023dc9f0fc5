// Package epoll waits for many descriptors with one goroutine: those of the
// bench's clients, and those of its floors.
package epoll

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// What is waited for. [Both] reports each change once, so that nothing has to be
// changed when there is, or is no longer, something to write.
const (
	In   = syscall.EPOLLIN
	Out  = syscall.EPOLLOUT
	Both = In | Out | syscall.EPOLLRDHUP | 1<<31 // EPOLLET, which is negative in package syscall

	// Ended are the events after which there will be nothing more to read.
	Ended = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
)

// Event is what happened to a descriptor.
type Event struct {
	ID   uint64 // that it was added by
	What uint32
}

// Set is an epoll set. Wait is for one goroutine; the other methods are safe for
// concurrent use.
//
// It waits by way of Go's own poller, in which the set is one descriptor: a thread
// that blocks in epoll_wait costs twice as much at moderate rates.
type Set struct {
	// Static.
	fd   int
	file *os.File // of fd
	raw  syscall.RawConn
	poll func(fd uintptr) bool

	// Only the goroutine that waits.
	kernel []syscall.EpollEvent
	came   int
	failed error
	events []Event
}

// New returns an empty set.
func New() (*Set, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // or os.File would not use the poller
		return nil, errors.Join(err, syscall.Close(fd))
	}
	s := &Set{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), kernel: make([]syscall.EpollEvent, 256)}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	s.poll = func(fd uintptr) bool {
		for {
			s.came, s.failed = syscall.EpollWait(int(fd), s.kernel, 0)
			if !errors.Is(s.failed, syscall.EINTR) {
				return s.came != 0
			}
		}
	}
	return s, nil
}

// Add has the set wait for a descriptor, until that is closed.
func (s *Set) Add(fd int, id uint64, what uint32) error {
	err := syscall.EpollCtl(s.fd, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: what, Fd: int32(id), Pad: int32(id >> 32)})
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// Wait returns what has happened, at least one event; they are valid until the
// next call. After Close it returns an error.
func (s *Set) Wait() ([]Event, error) {
	err := s.raw.Read(s.poll)
	if err = errors.Join(err, s.failed); err != nil {
		return nil, err
	}
	s.events = s.events[:0]
	for _, e := range s.kernel[:s.came] {
		s.events = append(s.events, Event{ID: uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32, What: e.Events})
	}
	return s.events, nil
}

// Close ends Wait.
func (s *Set) Close() error { return s.file.Close() }
