package session_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
	"github.com/allsparkrt/allspark/store/embedded"
)

// countingStore counts the rows that are read, and calls during before it says
// that one has been read, or that one who has joined has been written.
type countingStore struct {
	*embedded.Store
	reads  int
	during func()
	fails  bool // when who has joined is written
}

func (c *countingStore) Member(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (session.Member, error) {
	c.reads++
	m, err := c.Store.Member(ctx, id, node)
	if c.during != nil {
		c.during()
	}
	return m, err
}

func (c *countingStore) PutMember(ctx context.Context, m session.Member) error {
	err := c.Store.PutMember(ctx, m)
	if c.fails && m.State == session.Joined {
		return errAway
	}
	if c.during != nil && m.State == session.Joined {
		c.during()
	}
	return err
}

func (c *countingStore) Session(ctx context.Context, id envelope.SessionID) (session.Session, error) {
	c.reads++
	ses, err := c.Store.Session(ctx, id)
	if c.during != nil {
		c.during()
	}
	return ses, err
}

// newCounted is newWorld with reads that are counted, and a session that all may
// join.
func newCounted(t *testing.T) (*world, *countingStore) {
	t.Helper()
	w := newWorld(t)
	c := &countingStore{Store: w.store}
	w.Sessions = session.New(c, w.append, nil)
	if _, err := w.Create(t.Context(), who("owner"), "r", session.Settings{AnyoneCanJoin: true}, session.As{}); err != nil {
		t.Fatal(err)
	}
	return w, c
}

// write has a device send to the session.
func (w *world) write(t *testing.T, node envelope.NodeID) {
	t.Helper()
	if _, err := w.Resolve(t.Context(), &envelope.Envelope{SrcNode: node, DestSession: "r"}); err != nil {
		t.Fatal(err)
	}
}

// Who has joined may send without the store being asked, until something changes.
func TestRememberedSinceJoining(t *testing.T) {
	joined := func(node envelope.NodeID, seq uint64) func(*world) {
		return func(w *world) {
			w.Observe(&envelope.Envelope{Seq: seq, DestSession: "r", SrcNode: node, HasType: true, Type: envelope.TypeJoined})
		}
	}
	tests := []struct {
		name  string
		after func(*world)
		reads int
	}{
		{"nothing", func(*world) {}, 0},
		{"it reads its own entry", joined("bob", 2), 0},
		{"it reads an older one of its own", joined("bob", 1), 0},
		{"it hears of a later one of its own", joined("bob", 3), 1},
		{"it hears of one without a number", joined("bob", 0), 1},
		{"another has joined", joined("carol", 3), 0},
		{"another server tells", func(w *world) { w.Forget("r", "bob") }, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w, store := newCounted(t)
			if _, err := w.Join(t.Context(), who("bob"), "r", session.As{}); err != nil {
				t.Fatal(err)
			}
			store.reads = 0
			test.after(w)
			w.write(t, "bob")
			if store.reads != test.reads {
				t.Errorf("%d reads, want %d", store.reads, test.reads)
			}
			store.reads = 0
			if w.write(t, "bob"); store.reads != 0 {
				t.Errorf("%d reads for the next message", store.reads)
			}
		})
	}
}

// Who is said to have changed while its joining is written is asked for.
func TestNotRememberedWhenChangedWhileJoining(t *testing.T) {
	w, store := newCounted(t)
	store.during = func() { w.Forget("r", "bob") }
	if _, err := w.Join(t.Context(), who("bob"), "r", session.As{}); err != nil {
		t.Fatal(err)
	}
	store.during, store.reads = nil, 0
	if w.write(t, "bob"); store.reads != 1 {
		t.Errorf("%d reads, want 1", store.reads)
	}
}

// What is read while somebody says that it changes is not remembered, whoever says
// so and by which name.
func TestNotRememberedWhileItChanges(t *testing.T) {
	observe := func(name envelope.NodeID) func(*world) {
		return func(w *world) {
			w.Observe(&envelope.Envelope{Seq: 9, DestSession: "r", SrcNode: name, HasType: true, Type: envelope.TypeLeft})
		}
	}
	forget := func(name envelope.NodeID) func(*world) { return func(w *world) { w.Forget("r", name) } }
	tests := []struct {
		name    string
		as      session.As
		changes func(*world)
	}{
		{"told, by name", session.As{}, forget("bob")},
		{"in the log, by name", session.As{}, observe("bob")},
		{"told, by alias", as("bob"), forget("bob")},
		{"in the log, by alias", as("bob"), observe(alias("bob"))},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w, store := newCounted(t)
			if _, err := w.Join(t.Context(), who("bob"), "r", test.as); err != nil {
				t.Fatal(err)
			}
			w.Forget("r", "bob")
			store.during = func() { test.changes(w) }
			w.write(t, "bob")
			store.during, store.reads = nil, 0
			if w.write(t, "bob"); store.reads == 0 {
				t.Error("it was remembered")
			}
			store.reads = 0
			if w.write(t, "bob"); store.reads != 0 {
				t.Error("it is not remembered when nothing changes")
			}
		})
	}
}

// The same for what holds for a session.
func TestRulingNotRememberedWhileItChanges(t *testing.T) {
	w, store := newCounted(t)
	sees := func() {
		t.Helper()
		if _, err := w.SeesReaders(t.Context(), "owner", "r"); err != nil {
			t.Fatal(err)
		}
	}
	store.during = func() { w.Forget("r", "") }
	sees()
	store.during, store.reads = nil, 0
	if sees(); store.reads == 0 {
		t.Error("it was remembered")
	}
	store.reads = 0
	if sees(); store.reads != 0 {
		t.Error("it is not remembered when nothing changes")
	}
}

// A membership that is remembered does not keep the request in memory that its
// names were parts of.
func TestRememberedWithoutTheRequest(t *testing.T) {
	w, _ := newCounted(t)
	inUse := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	const devices, long = 30, 1 << 20
	before := inUse()
	for i := range devices {
		request := fmt.Sprintf("r device-%d %s", i, strings.Repeat("x", long))
		words := strings.SplitN(request, " ", 3)
		if _, err := w.Join(t.Context(), who(words[1]), envelope.SessionID(words[0]), session.As{}); err != nil {
			t.Fatal(err)
		}
	}
	if kept := inUse() - before; kept > devices*long/2 {
		t.Errorf("%d bytes for %d memberships", kept, devices)
	}
	w.write(t, "device-0")
}

// All servers are told what has become of a membership.
func TestChangesAreTold(t *testing.T) {
	w := newWorld(t)
	var told []envelope.NodeID
	store := &countingStore{Store: w.store}
	w.Sessions = session.New(store, w.append, func(_ envelope.SessionID, node envelope.NodeID) { told = append(told, node) })
	if _, err := w.Create(t.Context(), who("owner"), "r", session.Settings{AnyoneCanJoin: true}, session.As{}); err != nil {
		t.Fatal(err)
	}
	told = nil
	if _, err := w.Join(t.Context(), who("bob"), "r", session.As{}); err != nil || !slices.Equal(told, []envelope.NodeID{"bob"}) {
		t.Errorf("of joining: %v, %v", told, err)
	}
	told, store.fails = nil, true
	if _, err := w.Join(t.Context(), who("carol"), "r", session.As{}); err == nil || !slices.Contains(told, envelope.NodeID("carol")) {
		t.Errorf("of a write whose outcome is unknown: %v, %v", told, err)
	}
}

// What is read while it changes is not remembered; what is read while another
// membership changes is, but for those that share a count with it.
func TestRememberedWhileOthersChange(t *testing.T) {
	w, store := newCounted(t)
	const devices = 40
	remembered := func(changes func(envelope.NodeID) envelope.NodeID) (n int) {
		for i := range devices {
			node := envelope.NodeID(fmt.Sprintf("device-%d", i))
			if _, err := w.Join(t.Context(), who(string(node)), "r", session.As{}); err != nil {
				t.Fatal(err)
			}
			w.Forget("r", node)
			store.during = func() { w.Forget("r", changes(node)) }
			w.write(t, node)
			store.during, store.reads = nil, 0
			if w.write(t, node); store.reads == 0 {
				n++
			}
		}
		return n
	}
	if n := remembered(func(node envelope.NodeID) envelope.NodeID { return node }); n != 0 {
		t.Errorf("%d of %d were remembered although they had changed", n, devices)
	}
	if n := remembered(func(node envelope.NodeID) envelope.NodeID { return node + "-other" }); n < devices/2 {
		t.Errorf("%d of %d were remembered while another changed", n, devices)
	}
}
