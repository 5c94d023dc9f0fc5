package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
)

// queued returns what waits in memory for a device at a server.
func (s *server) queued(id envelope.NodeID) (frames, bytes int) {
	c := s.conns.device(id)
	if c == nil {
		return 0, 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lane.count(), c.lane.bytes
}

// A reader that does not read costs a bounded window and nobody else anything;
// when it reads again it gets everything in order.
func TestSlowReader(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		other := m.client("other", "a").connected(m)
		slow := m.raw("slow", "a")
		slow.hello("")
		slow.control("caught_up")
		filler := strings.Repeat("x", 8<<10)
		for i := range 600 {
			alice.send(to(deviceAddr("slow"), fmt.Sprint(i), filler))
			if frames, bytes := m.at("a").queued("slow"); frames > windowMessages || bytes > windowBytes+16<<10 {
				t.Fatalf("%d frames of %d bytes wait", frames, bytes)
			}
		}
		start := time.Now()
		alice.send(to(deviceAddr("other"), "1", "1"))
		m.within(100*time.Millisecond, "others are not delayed", func() bool { return len(other.texts()) == 1 })
		if time.Since(start) > 50*time.Millisecond {
			t.Errorf("took %v", time.Since(start))
		}
		time.Sleep(30 * time.Second) // less than Stall, more than a ping
		for i := range 600 {
			if e := slow.message(filler); e.Seq != uint64(i+1) {
				t.Fatalf("seq %d, want %d", e.Seq, i+1)
			}
		}
	})
}

// A reader that makes no progress is closed with 4001 after a minute.
func TestStalledReader(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		r := m.raw("slow", "a")
		r.hello("")
		r.control("caught_up")
		for i := range 10 {
			alice.send(to(deviceAddr("slow"), fmt.Sprint(i), "x"))
		}
		time.Sleep(59 * time.Second)
		if m.at("a").Stats().ClosedSlow.Load() != 0 || m.at("a").Connections() != 2 {
			t.Error("closed too early")
		}
		time.Sleep(3 * time.Second)
		if m.at("a").Stats().ClosedSlow.Load() != 1 {
			t.Error("not closed")
		}
		if got := r.closed(); got != 4001 {
			t.Errorf("closed with %d", got)
		}
		m.within(20*time.Second, "it is gone", func() bool { return m.at("a").Connections() == 1 })
	})
}

// A client whose network is dead is found out by a ping.
func TestDeadClient(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		r := m.raw("bob", "a")
		r.hello("")
		r.control("caught_up")
		m.within(2*time.Minute, "it is gone", func() bool { return m.at("a").Connections() == 0 })
	})
}

// A client that sends and never reads its replies is held back, by their number or
// by their size.
func TestRepliesNotRead(t *testing.T) {
	const members, idSize = 200, 100
	for _, c := range []struct {
		name, ask string
		reply     int // bytes at least
	}{
		{"many", `{"x":1}`, 0}, // refused
		{"large", `{"control":"presence","session_id":"room"}`, members * idSize},
	} {
		t.Run(c.name, func(t *testing.T) {
			inMesh(t, 1, func(t *testing.T, m *mesh) {
				m.roomOf(members, idSize)
				r := m.raw("bob", "a")
				r.hello("")
				for range members { // has joined
					if f, err := r.next(time.Minute); err != nil || f.ctl.Control != "" {
						t.Fatalf("got %s, %v", f.text, err)
					}
				}
				r.control("caught_up")
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				sent, frames, bytes := 0, 0, 0
				for ; sent < 10_000; sent++ {
					f, b := m.at("a").queued("bob")
					frames, bytes = max(frames, f), max(bytes, b)
					if r.ws.Write(ctx, websocket.MessageText, []byte(c.ask)) != nil {
						break
					}
				}
				if least := min(maxReplies, maxReplyBytes/max(c.reply, 1)) / 2; sent < least || sent > 4*least+10 {
					t.Errorf("%d frames were taken", sent)
				}
				if frames > maxReplies+maxInflight || bytes > maxReplyBytes+4*c.reply {
					t.Errorf("%d replies of %d bytes wait", frames, bytes)
				}
			})
		})
	}
}

// roomOf makes bob a room with that many members, with ids of that length.
func (m *mesh) roomOf(members, idSize int) {
	m.t.Helper()
	if _, err := m.api("bob", "bob", "a").CreateSession(m.t.Context(), "room", envelope.Settings{}); err != nil {
		m.t.Fatal(err)
	}
	for i := range members {
		id := fmt.Sprintf("%0*d", idSize, i)
		if _, err := m.api(id, id, "a").JoinSession(m.t.Context(), "room"); err != nil {
			m.t.Fatal(err)
		}
	}
}

func TestReplaced(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		first := m.raw("bob", "a")
		first.hello("")
		first.control("caught_up")
		second := m.raw("bob", "a")
		second.hello("")
		second.control("caught_up")
		if got := first.closed(); got != 4505 {
			t.Errorf("closed with %d", got)
		}
		pass(10 * time.Second)
		alice := m.client("alice", "a").connected(m)
		alice.send(to(deviceAddr("bob"), "1", "1"))
		second.message("1")
		if n := m.at("a").Stats().Replaced.Load(); n != 1 {
			t.Errorf("%d replaced", n)
		}
	})
}

func TestCredentialExpires(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		r := m.raw("bob", "a") // valid for an hour
		r.hello("")
		r.control("caught_up")
		start := time.Now()
		go func() {
			pass(time.Hour - time.Second)
			if m.at("a").Connections() != 1 {
				t.Error("closed too early")
			}
		}()
		if f, err := r.next(2 * time.Hour); err != nil || f.ctl.Control != envelope.ControlExpiring {
			t.Errorf("got %s, %v", f.text, err)
		}
		if _, err := r.next(2 * time.Hour); websocket.CloseStatus(err) != 4501 {
			t.Errorf("ended with %v", err)
		}
		if took := time.Since(start); took > time.Hour+auth.Leeway+time.Second {
			t.Errorf("after %v", took)
		}
	})
}

func TestMaxConnections(t *testing.T) {
	inMeshOf(t, 1, func(c *Config) { c.MaxConnections = 1 }, func(t *testing.T, m *mesh) {
		m.raw("bob", "a").hello("")
		token := m.ticket("eve", "eve", "a")
		_, resp, err := websocket.Dial(t.Context(), "ws://a/ws?token="+token, &websocket.DialOptions{HTTPClient: m.network.Client()})
		if err == nil || resp == nil || resp.StatusCode != 503 {
			t.Errorf("got %v, %v", resp, err)
		}
		_, err = m.api("eve", "eve", "a").JoinSession(t.Context(), "none") // calls go on
		if envelope.CodeOf(err) != envelope.NotFound {
			t.Errorf("a call got %v", err)
		}
		if m.at("a").Stats().RefusedFull.Load() == 0 {
			t.Error("not counted")
		}
	})
}

func TestVolatile(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		away := to(deviceAddr("nobody"), "1", "x")
		away.Class = envelope.Volatile
		if ack := alice.send(away); ack.Seq != 0 || !ack.Log.IsZero() {
			t.Errorf("ack is %+v", ack)
		}
		pass(time.Second)
		if n := m.at("a").Stats().DroppedAway.Load(); n != 1 {
			t.Errorf("%d dropped", n)
		}
		slow := m.raw("slow", "a")
		slow.hello("")
		slow.control("caught_up")
		for i := range windowMessages + 11 {
			e := to(deviceAddr("slow"), fmt.Sprint("v", i), fmt.Sprint(i))
			e.Class = envelope.Volatile
			alice.send(e)
			synctest.Wait()
		}
		dropped := int(m.at("a").Stats().DroppedSlow.Load())
		if dropped < 9 || dropped > 11 { // the writer holds one or two
			t.Errorf("%d dropped", dropped)
		}
		for i := range windowMessages + 11 - dropped {
			slow.message(fmt.Sprint(i))
		}
	})
}

// Of class latest a slow reader gets the newest value of each sender and key.
func TestLatest(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice, eve := m.client("alice", "a").connected(m), m.client("eve", "a").connected(m)
		slow := m.raw("slow", "a")
		slow.hello("")
		slow.control("caught_up")
		alice.send(to(deviceAddr("slow"), "first", "first"))
		synctest.Wait() // the writer is stuck with it
		for i := range 1000 {
			for _, d := range []*device{alice, eve} {
				for _, key := range []string{"x", "y"} {
					e := to(deviceAddr("slow"), fmt.Sprint(key, i), fmt.Sprint(key, i))
					e.Class, e.Key = envelope.Latest, key
					d.send(e)
				}
			}
		}
		slow.message("first")
		got := map[string]int{}
		for range 4 {
			f, err := slow.next(time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			got[string(f.msg.SrcNode)+" "+text(f.msg)]++
		}
		for _, want := range []string{"alice x999", "alice y999", "eve x999", "eve y999"} {
			if got[want] != 1 {
				t.Errorf("got %v, want %s", got, want)
			}
		}
		if n := m.at("a").Stats().Conflated.Load(); n != 4*999 {
			t.Errorf("%d conflated", n)
		}
		slow.quiet(time.Second)
	})
}

// What waits for a reader that does not read is bounded, also where small values are
// replaced by large ones; and where the window is full it gets the newest that fit.
func TestLatestGrows(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		slow := m.raw("slow", "a")
		slow.hello("")
		slow.control("caught_up")
		alice := m.raw("alice", "a")
		alice.hello("")
		alice.control("caught_up")
		send := func(key, value string) {
			alice.send(fmt.Sprintf(`{"dest_id":"slow","class":"latest","key":%q,"payload":%q}`, key, value))
			synctest.Wait()
		}
		dropped := func() int { return int(m.at("a").Stats().DroppedSlow.Load()) }
		waits := func() int { _, bytes := m.at("a").queued("slow"); return bytes }
		const values = 40
		value := func(i, size int) string { return fmt.Sprint(i, " ", strings.Repeat("y", size)) }
		send("first", "first") // the writer is stuck with it
		for i := range values {
			send(fmt.Sprint(i), value(i, 10))
		}
		for i := range 4 { // the last has no room any more
			send(fmt.Sprint("full", i), strings.Repeat("z", 500<<10))
		}
		if waits() < windowBytes || dropped() != 1 {
			t.Fatalf("%d bytes wait, %d dropped", waits(), dropped())
		}
		before := dropped()
		for i := range values {
			send(fmt.Sprint(i), value(i, 20))
		}
		if dropped() != before {
			t.Errorf("%d values that are hardly larger were dropped", dropped()-before)
		}
		for i := range values {
			send(fmt.Sprint(i), value(i, 100<<10))
		}
		if waits() > 2*windowBytes {
			t.Errorf("%d bytes wait", waits())
		}
		large := values - (dropped() - before)
		for i := range values {
			send(fmt.Sprint(i), value(i, 19))
		}
		if large == 0 || large == values || dropped()-before != values-large {
			t.Errorf("%d of %d large values had room, %d were dropped with the small ones that came after them", large, values, dropped()-before)
		}
		slow.message("first")
		for i := range values {
			slow.message(value(i, 19))
		}
	})
}

func TestDrain(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		stays := m.raw("stays", "a")
		stays.hello("")
		stays.control("caught_up")
		alice := m.client("alice", "b").connected(m)
		bob := m.device("bob", "bob", "a", "b")
		m.within(10*time.Second, "bob is there", func() bool { return m.at("a").conns.device("bob") != nil || m.at("b").conns.device("bob") != nil })
		alice.send(to(deviceAddr("stays"), "1", "1"))
		stays.message("1")
		stays.send(`{"control":"ack","cursors":{"node:stays":1}}`)
		synctest.Wait()

		drained := make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		start := time.Now()
		a := m.at("a")
		go func() { a.Drain(ctx); close(drained) }()
		synctest.Wait()
		if a.Ready() == nil {
			t.Error("still ready")
		}
		if err := a.Admit(); envelope.CodeOf(err) != envelope.GoingAway {
			t.Errorf("admits: %v", err)
		}
		_, resp, err := websocket.Dial(t.Context(), "ws://a/ws", &websocket.DialOptions{HTTPClient: m.network.Client()})
		if err == nil || resp.StatusCode != 503 {
			t.Errorf("a new connection got %v, %v", resp, err)
		}
		c := stays.control("reconnect")
		if c.AfterMS < 0 || c.AfterMS > 10_000 || len(c.Nodes) != 1 || c.Nodes[0] != "http://b" {
			t.Errorf("reconnect is %+v", c)
		}
		if got := stays.closed(); got != 1001 {
			t.Errorf("closed with %d", got)
		}
		if took := time.Since(start); took < time.Duration(c.AfterMS)*time.Millisecond || took > 15*time.Second {
			t.Errorf("closed after %v, told %d ms", took, c.AfterMS)
		}
		<-drained
		if took := time.Since(start); took > 21*time.Second {
			t.Errorf("took %v", took)
		}
		if a.Connections() != 0 {
			t.Errorf("%d connections left", a.Connections())
		}
		records, err := m.store.Servers(t.Context())
		if err != nil || len(records) != 1 {
			t.Errorf("records %v, %v", records, err)
		}
		cursors, err := m.store.Cursors(t.Context(), "stays")
		if err != nil || len(cursors) != 1 || cursors[0].Delivered != 1 {
			t.Errorf("cursors %v, %v", cursors, err)
		}
		delete(m.servers, "a")
		defer a.end()
		alice.send(to(deviceAddr("bob"), "2", "2"))
		m.within(5*time.Second, "bob goes on elsewhere", func() bool { return len(bob.texts()) == 1 })
	})
}

// An oversized frame ends its connection, also when its end never comes.
func TestOversizedFrameThatNeverEnds(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		r := m.raw("bob", "a")
		r.hello("")
		r.control("caught_up")
		w, err := r.ws.Writer(t.Context(), websocket.MessageText)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = w.Write(make([]byte, envelope.DefaultMaxFrame+1)) }() // and no end
		if c := r.control("error"); c.Code != envelope.TooLarge {
			t.Errorf("error is %+v", c)
		}
		if _, err := r.next(time.Minute); websocket.CloseStatus(err) != websocket.StatusMessageTooBig && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended with %v", err)
		}
		m.within(20*time.Second, "it is gone", func() bool { return m.at("a").Connections() == 0 })
	})
}
