package node

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// TestHelloLate: who was served without a hello, because it took too long on its
// way, is told to connect again, and not that it has done wrong.
func TestHelloLate(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		r := m.raw("bob", "a")
		time.Sleep(m.at("a").timing.Hello + time.Second)
		synctest.Wait()
		r.send(`{"control":"hello"}`)
		if code := r.closed(); int(code) != envelope.Busy.CloseCode() {
			t.Errorf("closed with %d", code)
		}
	})
}

func TestHello(t *testing.T) {
	for _, tt := range []struct {
		name    string
		members string // of the hello; EPOCH is replaced
		first   int    // the first message that comes; 5 have been stored, 2 are acknowledged
		floor   uint64 // of a gap told before it; 0 none
	}{
		{"no cursors", ``, 3, 0},
		{"cursor behind the stored one", `,"cursors":{"node:bob":1}`, 2, 0},
		{"cursor 0", `,"cursors":{"node:bob":0}`, 1, 0},
		{"cursor ahead of the stored one", `,"cursors":{"node:bob":4}`, 5, 0},
		{"cursor at the head", `,"cursors":{"node:bob":5}`, 6, 0},
		{"cursor ahead of the head", `,"cursors":{"node:bob":6}`, 1, 1},
		{"cursor of another log", `,"cursors":{"client:bob":0,"session:none":7}`, 3, 0},
		{"cursor of this epoch", `,"cursors":{"node:bob":4},"epoch":"EPOCH"`, 5, 0},
		{"cursor of another epoch", `,"cursors":{"node:bob":4},"epoch":"other"`, 3, 3},
		{"from now", `,"resume":false`, 6, 0},
		{"resume", `,"resume":true`, 3, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inMesh(t, 1, func(t *testing.T, m *mesh) {
				alice := m.client("alice", "a").connected(m)
				for i := 1; i <= 5; i++ {
					alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
				}
				m.at("a").inbox.Acknowledge("bob", deviceAddr("bob"), 2)
				r := m.raw("bob", "a")
				hello := r.hello(replaceEpoch(tt.members, m.at("a").epoch))
				if hello.Heads["node:bob"] != 5 || hello.Epoch != m.at("a").epoch {
					t.Errorf("hello is %+v", hello)
				}
				if tt.floor > 0 {
					if gap := r.control("gap"); gap.Floor != tt.floor || gap.Log != "node:bob" {
						t.Errorf("gap is %+v, want floor %d", gap, tt.floor)
					}
				}
				for i := tt.first; i <= 5; i++ {
					r.message(fmt.Sprint(i))
				}
				if c := r.control("caught_up"); c.Heads["node:bob"] != 5 {
					t.Errorf("caught up to %v", c.Heads)
				}
				alice.send(to(deviceAddr("bob"), "6", "6"))
				r.message("6")
			})
		})
	}
}

func replaceEpoch(members, epoch string) string {
	const mark = "EPOCH"
	for i := range len(members) - len(mark) + 1 {
		if members[i:i+len(mark)] == mark {
			return members[:i] + epoch + members[i+len(mark):]
		}
	}
	return members
}

func TestFirstFrames(t *testing.T) {
	const refused = `{"control":"error","code":"bad_request"`
	for _, tt := range []struct {
		name   string
		frames []string
		want   []string // beginnings of what comes back
	}{
		{"hello twice", []string{`{"control":"hello"}`, `{"control":"hello"}`}, []string{`{"control":"hello"`, `{"control":"caught_up"`, refused}},
		{"envelope before hello", []string{`{"id":"1","dest_id":"x"}`, `{"control":"hello"}`}, []string{`{"control":"ack","id":"1"`, refused}},
		{"ack before hello", []string{`{"control":"ack","cursors":{"node:bob":1}}`, `{"control":"hello"}`}, []string{refused}},
		{"unknown control frame before hello", []string{`{"control":"dance"}`, `{"control":"hello"}`}, []string{refused, `{"control":"hello"`, `{"control":"caught_up"`}},
		{"a server's control frame", []string{`{"control":"hello"}`, `{"control":"caught_up"}`}, []string{`{"control":"hello"`, `{"control":"caught_up"`, refused}},
		{"cursor of no address", []string{`{"control":"hello","cursors":{"bob":1}}`}, []string{refused}},
		{"cursor beyond numbers", []string{`{"control":"hello","cursors":{"node:bob":9007199254740993}}`}, []string{refused}},
		{"unknown member", []string{`{"control":"hello","cursor":{}}`}, []string{refused}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inMesh(t, 1, func(t *testing.T, m *mesh) {
				r := m.raw("bob", "a")
				go func() {
					for _, f := range tt.frames {
						r.send(f)
						pass(10 * time.Millisecond)
					}
				}()
				for _, want := range tt.want {
					f, err := r.next(time.Minute)
					if err != nil || len(f.text) < len(want) || f.text[:len(want)] != want {
						t.Fatalf("got %q, %v; want %s…", f.text, err, want)
					}
				}
				r.quiet(500 * time.Millisecond)
			})
		})
	}
}

// A client that says nothing for three seconds is served without a hello: what it
// gets is acknowledged by its pongs.
func TestNoHello(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		alice.send(to(deviceAddr("bob"), "1", "1"))
		r := m.raw("bob", "a")
		start := time.Now()
		r.message("1")
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("served after %v", took)
		}
		go func() { _, _ = r.next(time.Hour) }() // answers pings
		pass(2 * time.Second)
		if got := delivered(m, "bob", deviceAddr("bob")); got != 1 {
			t.Errorf("acknowledged up to %d", got)
		}
	})
}

// delivered returns the cursor of a device as servers see it.
func delivered(m *mesh, id envelope.NodeID, log envelope.Address) uint64 {
	m.t.Helper()
	cursors, err := m.at("a").inbox.Cursors(m.t.Context(), id)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, c := range cursors {
		if c.Log == log {
			return c.Delivered
		}
	}
	return 0
}

// Volatile messages never come before the answer to hello, and a device that
// is flooded with them can connect.
func TestVolatileBeforeHello(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		r := m.raw("bob", "a")
		block := make(chan struct{})
		m.at("a").store.set(func(f *faultyStore) {
			f.before = func(op string) error {
				if op == "cursors" {
					<-block
				}
				return nil
			}
		})
		r.send(`{"control":"hello"}`)
		synctest.Wait()
		e := to(deviceAddr("bob"), "", "tick")
		e.Class = envelope.Volatile
		alice.send(e)
		synctest.Wait()
		close(block)
		r.control("hello")
		r.control("caught_up")
		alice.send(e)
		r.message("tick")
		if m.at("a").Stats().DroppedAway.Load() != 1 {
			t.Error("the first one was not counted as dropped")
		}
	})
}

// caught_up is not said while a log cannot be read.
func TestCaughtUpWaitsForTheStore(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		alice.send(to(deviceAddr("bob"), "1", "1"))
		fail := true
		m.at("a").store.set(func(f *faultyStore) {
			f.before = func(op string) error {
				f.mu.Lock()
				defer f.mu.Unlock()
				if op == "read" && fail {
					return errAway
				}
				return nil
			}
		})
		r := m.raw("bob", "a")
		r.hello("")
		pass(5 * time.Second)
		m.at("a").store.set(func(*faultyStore) { fail = false })
		r.message("1")
		if c := r.control("caught_up"); c.Heads["node:bob"] != 1 {
			t.Errorf("caught up to %v", c.Heads)
		}
	})
}

// A cursor beyond the head is of another life of the log, as after a backup was
// restored: the device gets everything, and is told that its position is gone.
func TestStoredCursorBeyondHead(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		for i := range 3 {
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		if err := m.store.Advance(t.Context(), []inbox.Cursor{{Node: "bob", Log: deviceAddr("bob"), Delivered: 7}}); err != nil {
			t.Fatal(err)
		}
		bob := m.raw("bob", "a")
		bob.hello("")
		if c := bob.control("gap"); c.Log != "node:bob" || c.Floor != 1 {
			t.Errorf("gap is %+v", c)
		}
		for i := range 3 {
			bob.message(fmt.Sprint(i))
		}
		legacy := m.legacy("bob", "a")
		for i := range 3 {
			legacy.message(fmt.Sprint(i))
		}
	})
}
