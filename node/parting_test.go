package node

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/envelope"
)

func (s *server) publishVolatile(dest string) {
	s.publish(deviceAddr(dest), &envelope.Envelope{
		DestNode: envelope.NodeID(dest), SrcNode: "alice", Class: envelope.Volatile, Body: []byte(`"payload":"x"`),
	})
}

// A connection that must end does so although its device is always sent more
// than it reads.
func TestGoodbyeBeforeAStream(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		r := m.raw("bob", "a")
		r.hello("")
		r.control("caught_up")
		ctx, stop := context.WithCancel(t.Context())
		var streaming sync.WaitGroup
		streaming.Go(func() {
			for ctx.Err() == nil {
				m.at("a").publishVolatile("bob")
				time.Sleep(5 * time.Millisecond)
			}
		})
		defer streaming.Wait()
		defer stop()
		time.AfterFunc(5*time.Second, func() {
			m.at("a").conns.device("bob").close(envelope.Unauthorized, "the credential has expired")
		})
		var err error
		for start := time.Now(); err == nil; time.Sleep(6 * time.Millisecond) {
			if time.Since(start) > 10*time.Second { // the window is read in less than two
				t.Fatal("still open and served")
			}
			_, err = r.next(time.Minute)
		}
		if got := websocket.CloseStatus(err); got != 4501 {
			t.Errorf("closed with %d, %v", got, err)
		}
	})
}

// replaceUnread connects a device that reads nothing of what is sent to it,
// and then connects it again.
func (m *mesh) replaceUnread(id, at string) {
	m.t.Helper()
	old := m.raw(id, at)
	old.hello("")
	old.control("caught_up")
	for range 3 {
		m.at(at).publishVolatile(id)
	}
	synctest.Wait()
	m.raw(id, at).hello("")
}

// A connection that was replaced and does not read ends within seconds.
func TestReplacedWithoutReading(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		m.replaceUnread("bob", "a")
		m.within(closing+time.Second, "the old one has ended", func() bool { return m.at("a").Stats().Disconnected.Load() == 1 })
		if n := m.at("a").Connections(); n != 1 {
			t.Errorf("%d connections; want the new one", n)
		}
	})
}

// A replaced connection that does not read does not hold up a server's end.
func TestEndWithReplacedConnection(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		m.replaceUnread("bob", "a")
		s, start := m.at("a"), time.Now()
		s.stop()
		err := <-s.ran
		if took := time.Since(start); took > 2*closing {
			t.Errorf("the server ended after %v", took)
		}
		s.ran <- err // for end
	})
}
