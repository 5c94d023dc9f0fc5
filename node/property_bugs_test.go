package node

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
)

// bug is one way in which servers could be wrong. All servers of a mesh share
// it. Nil members are right.
type bug struct {
	promise string // the faults that it must lead to begin with one of these
	// append stands for the store's, with the right one at hand.
	append func(b *bent, log envelope.Address, env *envelope.Envelope, done func(uint64, error))
	// cursors, members and write change what is read and what is written to a
	// client; write calls right as often as it likes.
	cursors func([]inbox.Cursor)
	members func([]session.Member)
	write   func(l *bentLine, frame []byte) error
}

// bent is the store as a server with a bug sees it.
type bent struct {
	*faultyStore
	bug *bug
	all *bentState
}

// bentState is what the servers of a mesh share of a bug.
type bentState struct {
	mu     sync.Mutex
	nodes  []*server
	heads  map[envelope.Address]uint64
	held   map[envelope.Address]func()
	events int
}

// every reports true once in n times.
func (s *bentState) every(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events++
	return s.events%n == 0
}

func (s *bentState) head(log envelope.Address) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heads[log]
}

// hold keeps an append until another one to that log has overtaken it, or
// there is none.
func (s *bentState) hold(log envelope.Address, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[log] = f
	time.AfterFunc(100*time.Millisecond, func() {
		if f := s.release(log); f != nil {
			f()
		}
	})
}

func (s *bentState) release(log envelope.Address) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.held[log]
	delete(s.held, log)
	return f
}

func (b *bent) Append(log envelope.Address, env *envelope.Envelope, done func(uint64, error)) {
	if b.bug.append == nil || env.HasType {
		b.right(log, env, done)
		return
	}
	b.bug.append(b, log, env, done)
}

func (b *bent) right(log envelope.Address, env *envelope.Envelope, done func(uint64, error)) {
	b.faultyStore.Append(log, env, func(seq uint64, err error) {
		b.all.mu.Lock()
		b.all.heads[log] = max(b.all.heads[log], seq)
		b.all.mu.Unlock()
		done(seq, err)
	})
}

func (b *bent) Cursors(ctx context.Context, node envelope.NodeID) ([]inbox.Cursor, error) {
	cursors, err := b.faultyStore.Cursors(ctx, node)
	if b.bug.cursors != nil {
		b.bug.cursors(cursors)
	}
	return cursors, err
}

func (b *bent) Memberships(ctx context.Context, node envelope.NodeID) ([]session.Member, error) {
	ms, err := b.faultyStore.Memberships(ctx, node)
	if b.bug.members != nil {
		b.bug.members(ms)
	}
	return ms, err
}

// bentCore is a server whose way to its clients has a bug.
type bentCore struct {
	*server
	bug *bug
	all *bentState
}

func (c *bentCore) Serve(ctx context.Context, who envelope.Principal, t gateway.Transport, codec gateway.Codec, o gateway.Options) {
	if c.bug.write != nil {
		t = &bentLine{Transport: t, bug: c.bug, all: c.all}
	}
	c.server.Serve(ctx, who, t, codec, o)
}

// bentLine is a connection with a bug; it is written to by one goroutine.
type bentLine struct {
	gateway.Transport
	bug  *bug
	all  *bentState
	kept []byte
}

func (l *bentLine) Write(frame []byte) error {
	if bytes.HasPrefix(frame, []byte(`{"control"`)) {
		return l.Transport.Write(frame)
	}
	return l.bug.write(l, frame)
}

// The checker sees what is wrong with servers that are wrong.
func TestCheckerSeesBugs(t *testing.T) {
	for name, bug := range map[string]bug{
		"acknowledged before the write, which is lost": {
			promise: "1:",
			append: func(b *bent, log envelope.Address, env *envelope.Envelope, done func(uint64, error)) {
				if b.all.every(20) {
					done(b.all.head(log)+1, nil)
					return
				}
				b.right(log, env, done)
			},
		},
		"no dedupe": {
			promise: "5:",
			append: func(b *bent, log envelope.Address, env *envelope.Envelope, done func(uint64, error)) {
				unknown := *env
				unknown.ID = ""
				b.right(log, &unknown, done)
			},
		},
		"no conflict": {
			promise: "5:",
			append: func(b *bent, log envelope.Address, env *envelope.Envelope, done func(uint64, error)) {
				b.right(log, env, func(seq uint64, err error) {
					if envelope.CodeOf(err) == envelope.Conflict {
						seq, err = 1, nil
					}
					done(seq, err)
				})
			},
		},
		"a number used again": {
			promise: "1:",
			append: func(b *bent, log envelope.Address, env *envelope.Envelope, done func(uint64, error)) {
				b.right(log, env, func(seq uint64, err error) {
					if err == nil && seq > 1 && b.all.every(20) {
						seq--
					}
					done(seq, err)
				})
			},
		},
		"delivered before it is stored, which fails": {
			promise: "3:",
			append: func(b *bent, log envelope.Address, env *envelope.Envelope, done func(uint64, error)) {
				if !b.all.every(10) {
					b.right(log, env, done)
					return
				}
				early := *env
				early.Seq = b.all.head(log) + 1
				b.all.mu.Lock()
				nodes := b.all.nodes
				b.all.mu.Unlock()
				for _, s := range nodes {
					s.deliver(log, &early)
				}
				done(0, envelope.Errorf(envelope.Forbidden, "not after all"))
			},
		},
		"numbered in another order": {
			promise: "4:",
			append: func(b *bent, log envelope.Address, env *envelope.Envelope, done func(uint64, error)) {
				first := b.all.release(log)
				if first == nil && env.SrcNode[0] == 'c' { // of those who send without waiting
					b.all.hold(log, func() { b.right(log, env, done) })
					return
				}
				b.right(log, env, done)
				if first != nil {
					first()
				}
			},
		},
		"resumed one too far": {
			promise: "7:",
			cursors: func(cursors []inbox.Cursor) {
				for i := range cursors {
					cursors[i].Delivered++
				}
			},
		},
		"members for ever, and before": {
			promise: "6:",
			members: func(ms []session.Member) {
				for i := range ms {
					ms[i].Spans = []session.Span{{From: 1}}
				}
			},
		},
		"dropped": {
			promise: "7:",
			write: func(l *bentLine, frame []byte) error {
				if l.all.every(30) {
					return nil
				}
				return l.Transport.Write(frame)
			},
		},
		"a second live path": {
			promise: "2:",
			write: func(l *bentLine, frame []byte) error {
				if l.all.every(30) {
					if err := l.Transport.Write(frame); err != nil {
						return err
					}
				}
				return l.Transport.Write(frame)
			},
		},
		"reordered": {
			promise: "2:",
			write: func(l *bentLine, frame []byte) error {
				if l.kept == nil && l.all.every(10) {
					l.kept = bytes.Clone(frame)
					return nil
				}
				err := l.Transport.Write(frame)
				if l.kept != nil && err == nil {
					frame, l.kept = l.kept, nil
					err = l.Transport.Write(frame)
				}
				return err
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 5 {
				faults := liveWith(t, &bug)
				for _, fault := range faults {
					if fault[:2] == bug.promise {
						t.Log(fault)
						return
					}
				}
				t.Logf("other faults: %q", faults)
			}
			t.Error("not seen")
		})
	}
}

// Nor does it see any where none are.
func TestCheckerSeesNoBugs(t *testing.T) {
	for _, fault := range liveWith(t, new(bug)) {
		t.Error(fault)
	}
}

// liveWith lets a quiet world go by in which all servers have a bug.
func liveWith(t *testing.T, b *bug) (faults []string) {
	all := &bentState{heads: map[envelope.Address]uint64{}, held: map[envelope.Address]func(){}}
	config := func(c *Config) {
		store := &bent{c.Inbox.(*faultyStore), b, all}
		c.Inbox, c.Sessions = store, store
	}
	seed := seeds(t, 1)[0]
	core := func(s *server) gateway.Core {
		all.mu.Lock()
		defer all.mu.Unlock()
		all.nodes = append(all.nodes, s)
		return &bentCore{s, b, all}
	}
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 0, config, true)
		defer m.close()
		m.core = core
		for _, id := range []string{"a", "b", "c"} {
			m.start(id)
		}
		m.linked()
		faults = m.live(t, quietPlan, seed)
	})
	return faults
}
