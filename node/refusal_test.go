package node

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/push"
	"github.com/allsparkrt/allspark/session"
)

// ownedElsewhere returns a device whose log another server owns.
func (s *server) ownedElsewhere() string {
	for i := 0; ; i++ {
		if id := fmt.Sprint("bob", i); s.owners.owner(deviceAddr(id)) != nil {
			return id
		}
	}
}

// submit sends a durable message that says nothing.
func (r *raw) submit(id, dest string) {
	r.t.Helper()
	r.send(fmt.Sprintf(`{"id":%q,"dest_id":%q}`, id, dest))
}

// refused reads the next frame, which must refuse that message for now.
func (r *raw) refused(id string) {
	r.t.Helper()
	if c := r.control("nack"); c.ID != id || c.Code != envelope.Busy {
		r.t.Fatalf("got %+v; want %s refused for now", c, id)
	}
}

// stored reads the next frame, which must acknowledge that message.
func (r *raw) stored(id string, seq uint64) {
	r.t.Helper()
	if c := r.control("ack"); c.ID != id || c.Seq != seq {
		r.t.Fatalf("got %+v; want %s stored under %d", c, id, seq)
	}
}

// lateConn is a connection on which what is written arrives later.
type lateConn struct {
	net.Conn
	delay  time.Duration
	sent   chan lateBytes
	closed chan struct{}
	once   sync.Once
}

type lateBytes struct {
	due   time.Time
	bytes []byte
}

func newLateConn(conn net.Conn, delay time.Duration) *lateConn {
	c := &lateConn{Conn: conn, delay: delay, sent: make(chan lateBytes, 1024), closed: make(chan struct{})}
	go func() {
		for {
			select {
			case s := <-c.sent:
				time.Sleep(time.Until(s.due))
				_, _ = conn.Write(s.bytes) // fails when it is closed
			case <-c.closed:
				return
			}
		}
	}()
	return c
}

func (c *lateConn) Write(b []byte) (int, error) {
	select {
	case c.sent <- lateBytes{time.Now().Add(c.delay), bytes.Clone(b)}:
		return len(b), nil
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *lateConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A log that many send to all the time goes on after its owner's store was away
// for a moment: no sender's refusal is another one's.
func TestBusyLogAfterRefusal(t *testing.T) {
	config := func(c *Config) {
		c.SharedStore = true
		dial := c.PeerDial
		c.PeerDial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return newLateConn(conn, 100*time.Millisecond), nil
		}
	}
	inMeshOf(t, 2, config, func(t *testing.T, m *mesh) {
		dest := deviceAddr(m.at("a").ownedElsewhere())
		ctx, stop := context.WithCancel(t.Context())
		var acked atomic.Int64
		var sending sync.WaitGroup
		for i := range 60 {
			d := m.client(fmt.Sprint("sender", i), "a").connected(m)
			room := make(chan struct{}, 4)
			sending.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					select {
					case room <- struct{}{}:
					case <-ctx.Done():
						return
					}
					err := d.SendAsync(t.Context(), to(dest, fmt.Sprint(n), ""), func(_ client.Ack, err error) {
						if err == nil {
							acked.Add(1)
						}
						<-room
					})
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(time.Duration(150+5*i) * time.Millisecond)
				}
			})
		}
		count := func() int64 {
			acked.Store(0)
			time.Sleep(time.Second)
			return acked.Load()
		}
		time.Sleep(time.Second)
		before := count()
		m.at("b").store.set(func(f *faultyStore) { f.append = func(envelope.Address, string) error { return errAway } })
		time.Sleep(50 * time.Millisecond)
		m.at("b").store.set(func(f *faultyStore) { f.append = nil })
		time.Sleep(time.Second) // for those that were told to come again later
		if after := count(); after < before/2 {
			t.Errorf("%d messages in a second after the store was away, %d before", after, before)
		}
		stop()
		sending.Wait()
	})
}

// What followed a refused message to an owner that is lost then is not appended
// before the refused one has come again.
func TestLostOwnerAfterRefusal(t *testing.T) {
	inMeshOf(t, 2, shared(true), func(t *testing.T, m *mesh) {
		dest := m.at("a").ownedElsewhere()
		m.at("b").store.set(func(f *faultyStore) {
			f.take = func(_ envelope.Address, id string, done func(uint64, error)) bool {
				after := 100 * time.Millisecond
				if id == "2" {
					after = time.Second // b is dead by then
				}
				time.AfterFunc(after, func() { done(0, errAway) })
				return true
			}
		})
		r := m.raw("alice", "a")
		r.hello("")
		r.control("caught_up")
		r.submit("1", dest)
		r.submit("2", dest)
		r.refused("1")
		m.kill("b")
		r.refused("2")
		synctest.Wait() // neither is under way any more
		r.submit("1", dest)
		r.stored("1", 1)
		r.submit("2", dest)
		r.stored("2", 2)
	})
}

// replaceLink does what a new link from a peer does before the old one has
// ended. It returns the old one, and what undoes it.
func (s *server) replaceLink(peer envelope.ServerID) (old *link, undo func()) {
	p := s.peers
	p.mu.Lock()
	defer p.mu.Unlock()
	old = p.links[peer]
	p.links[peer] = &link{peer: peer, boot: old.boot, ws: old.ws, wakeup: make(chan struct{}, 1)}
	return old, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.links[peer] = old
	}
}

// An append that comes by a link which has been replaced is held against what
// was refused on that link, not on the new one.
func TestReplacedLinkStillRefuses(t *testing.T) {
	inMeshOf(t, 2, shared(true), func(t *testing.T, m *mesh) {
		b, dest := m.at("b"), deviceAddr("bob")
		b.store.set(func(f *faultyStore) {
			f.append = func(_ envelope.Address, id string) error {
				if id == "1" {
					return errAway
				}
				return nil
			}
		})
		record := func(number uint64, id string, first bool) []byte {
			e := to(dest, id, "")
			e.SrcNode, e.SrcClient = "alice", "alice"
			return appendRecord(nil, recordAppend, appendBody(&appending{log: dest, env: &e, number: number}, first))
		}
		if err := b.peers.receive(b.peers.link("a"), record(1001, "1", true)); err != nil {
			t.Fatal(err)
		}
		old, undo := b.replaceLink("a")
		defer undo()
		if err := b.peers.receive(old, record(1002, "2", false)); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if heads, err := b.inbox.Heads(t.Context(), map[envelope.Address]uint64{dest: 0}); err != nil || heads[dest] != 0 {
			t.Errorf("the log goes to %d, %v: 2 was stored although 1 was refused", heads[dest], err)
		}
	})
}

// An owner's answer counts also when it comes by a link that has been replaced.
func TestAnswerByReplacedLink(t *testing.T) {
	inMeshOf(t, 2, shared(true), func(t *testing.T, m *mesh) {
		a := m.at("a")
		dest := a.ownedElsewhere()
		m.at("b").store.set(func(f *faultyStore) { // the answer takes a second
			f.take = func(_ envelope.Address, _ string, done func(uint64, error)) bool {
				time.AfterFunc(time.Second, func() { done(7, nil) })
				return true
			}
		})
		r := m.raw("alice", "a")
		r.hello("")
		r.control("caught_up")
		r.submit("1", dest)
		synctest.Wait()
		_, undo := a.replaceLink("b")
		defer undo()
		r.stored("1", 7)
	})
}

// A message that was refused because the membership could not be read comes
// before the later ones, as any other that was refused.
func TestRefusedBeforeMembershipIsKnown(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := envelope.Principal{Node: "alice", Client: "alice"}
		if _, err := m.at("a").sessions.Create(t.Context(), alice, "room", session.Settings{AnyoneCanJoin: true}, session.As{}); err != nil {
			t.Fatal(err)
		}
		heads, err := m.at("a").inbox.Heads(t.Context(), map[envelope.Address]uint64{room("room"): 0})
		if err != nil {
			t.Fatal(err)
		}
		head := heads[room("room")]
		r := m.raw("alice", "a")
		r.hello("")
		r.control("caught_up")
		m.at("a").sessions.Forget("room", "alice")
		m.at("a").store.set(func(f *faultyStore) { f.before = failNth("member", 1) })
		r.send(`{"id":"1","dest_session_id":"room"}`)
		r.send(`{"id":"2","dest_session_id":"room"}`)
		r.refused("1")
		r.refused("2")
		r.send(`{"id":"1","dest_session_id":"room"}`)
		r.stored("1", head+1)
		r.send(`{"id":"2","dest_session_id":"room"}`)
		r.stored("2", head+2)
	})
}

// A refusal that is told while a later message is on its way to the store does
// not let that one overtake: what a Store refuses until all is told stays so.
func TestRefusedWhileAnotherPasses(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		passing, told := make(chan struct{}), make(chan struct{})
		m.at("a").store.set(func(f *faultyStore) {
			f.take = func(_ envelope.Address, id string, done func(uint64, error)) bool {
				select {
				case <-told:
					return false // the store takes messages again
				default:
				}
				if id == "1" {
					go func() {
						<-passing
						done(0, errAway)
						close(told)
					}()
					return true
				}
				close(passing)
				select {
				case <-told:
					return false
				case <-time.After(time.Second):
					done(0, errAway)
					return true
				}
			}
		})
		r := m.raw("alice", "a")
		r.hello("")
		r.control("caught_up")
		r.submit("1", "bob")
		r.submit("2", "bob")
		r.refused("2")
		r.refused("1")
		r.submit("1", "bob")
		r.stored("1", 1)
		r.submit("2", "bob")
		r.stored("2", 2)
	})
}

// notingStore tells when it is noted that a log is to be looked at for push.
type notingStore struct {
	push.Store
	noting atomic.Pointer[func()] // called once
}

func (s *notingStore) Touch(ctx context.Context, keys []push.JobKey, due int64) error {
	if f := s.noting.Swap(nil); f != nil {
		(*f)()
	}
	return s.Store.Touch(ctx, keys, due)
}

// A message that is refused while the next one waits for the store, to note what is to
// be done about it, does not wait for that one: it is the store which tells, and it
// would wait for itself. Nor is it overtaken.
func TestRefusedWhileAnotherIsNoted(t *testing.T) {
	var notes *notingStore
	config := func(c *Config) {
		notes = &notingStore{Store: c.Inbox.(push.Store)}
		c.Push = Push{Store: notes, Senders: map[push.Service]push.Sender{push.FCM: new(service)}}
	}
	inMeshOf(t, 1, config, func(t *testing.T, m *mesh) {
		refuse := make(chan func(), 1)
		m.at("a").store.set(func(f *faultyStore) {
			first := true
			f.take = func(_ envelope.Address, id string, done func(uint64, error)) (taken bool) {
				if taken = first; taken {
					refuse <- func() { done(0, errAway) }
				}
				first = false
				return taken
			}
		})
		r := m.raw("alice", "a")
		r.hello("")
		r.control("caught_up")
		send := func(id string) { r.send(fmt.Sprintf(`{"id":%q,"dest_client_id":"bob"}`, id)) }
		send("1")
		pass(pushAfter) // and it is noted anew with the next
		noting := func() {
			told := make(chan struct{})
			go func() {
				(<-refuse)()
				close(told)
			}()
			select {
			case <-told:
			case <-time.After(time.Minute):
				t.Error("the store is held up")
			}
		}
		notes.noting.Store(&noting)
		send("2")
		r.refused("1")
		r.refused("2")
		if notes.noting.Load() != nil {
			t.Fatal("nothing was noted")
		}
		send("1")
		r.stored("1", 1)
		send("2")
		r.stored("2", 2)
	})
}

// A connection of which more refused messages would have to be remembered than there
// is room for ends, and until it has nothing overtakes the one that is not remembered.
func TestTooManyRefused(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		a := m.at("a")
		a.store.set(func(f *faultyStore) {
			f.append = func(_ envelope.Address, id string) error {
				if id == "1" {
					return errAway
				}
				return nil
			}
		})
		r := m.raw("alice", "a")
		r.hello("")
		r.control("caught_up")
		r.submit("0", "bob")
		r.stored("0", 1)
		c := a.conns.device("alice")
		c.mu.Lock()
		for i := range maxRefused {
			c.gates.shut(deviceAddr(fmt.Sprint("eve", i)), "x", 0, time.Now())
		}
		c.mu.Unlock()
		r.submit("1", "bob") // the goodbye waits until it is read that this one was refused
		r.submit("2", "bob")
		synctest.Wait()
		r.refused("1")
		if got := r.closed(); int(got) != envelope.Busy.CloseCode() {
			t.Errorf("closed with %d", got)
		}
		if heads, err := a.inbox.Heads(t.Context(), map[envelope.Address]uint64{deviceAddr("bob"): 0}); err != nil || heads[deviceAddr("bob")] != 1 {
			t.Errorf("the log goes to %d, %v: 2 was stored although 1 was refused", heads[deviceAddr("bob")], err)
		}
	})
}
