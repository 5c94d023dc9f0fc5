package node

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/gateway/native"
	"github.com/allsparkrt/allspark/internal/loop"
)

// An idle connection, over TCP, stays as small as it is: epoll, node, edges and
// all. Resident memory is up to twice that.
func TestIdleConnectionBytes(t *testing.T) {
	if underRace {
		t.Skip("the race detector takes memory, too")
	}
	const conns, shared = 2000, 10
	name := func(i int) string { return fmt.Sprint("device", i) }
	for _, tt := range []struct {
		name string
		most float64 // bytes of the heap
		join func(m *mesh, i int)
		says func(i int) string // after hello; what answers it
		want string
	}{
		{ // 2,500 or so
			"with a topic that ten share", 2900, nil,
			func(i int) string { return fmt.Sprintf(`{"control":"subscribe","topics":["topic:room%d"]}`, i/shared) },
			`"subscribed"`,
		},
		{ // 2,750 or so
			"a member of a session of ten who watches three users", 3200,
			func(m *mesh, i int) {
				room := envelope.SessionID(fmt.Sprint("room", i/shared))
				if i%shared == 0 {
					m.createsSession("a", name(i), room)
				} else {
					m.joins("a", name(i), string(room), gateway.Alias{})
				}
			},
			func(i int) string {
				return fmt.Sprintf(`{"control":"presence","subscribe":true,"clients":[%q,%q,%q]}`,
					name((i+conns/4)%conns), name((i+conns/2)%conns), name((i+conns*3/4)%conns))
			},
			`"presence"`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const tries = 3 // what else the process has just begun to hold counts as well
			each := math.Inf(1)
			for range tries {
				each = min(each, idleBytes(t, conns, tt.join, func(m *mesh, where string, i int) int {
					return m.idle(where, name(i), tt.says(i), tt.want)
				}))
				if each <= tt.most {
					break
				}
			}
			t.Logf("%.0f bytes", each)
			if each > tt.most {
				t.Errorf("%.0f bytes for an idle connection, more than %.0f", each, tt.most)
			}
		})
	}
}

// idleBytes returns what each of so many connections takes. join, if it is given, is
// called for each before any is there.
func idleBytes(t *testing.T, conns int, join func(m *mesh, i int), connect func(m *mesh, where string, i int) int) float64 {
	m := newMesh(t, 1, nil, false)
	defer m.close()
	where := m.listenLooped("a")
	if join != nil {
		for i := range conns {
			join(m, i)
		}
	}
	clients := make([]int, 0, conns+100) // descriptors
	defer func() {
		for _, fd := range clients {
			_ = syscall.Close(fd)
		}
	}()
	for i := range 100 { // what grows once
		clients = append(clients, m.idle(where, fmt.Sprint("before", i), `{"control":"presence","clients":["nobody"]}`, `"presence"`))
	}
	before := liveHeap()
	for i := range conns {
		clients = append(clients, connect(m, where, i))
	}
	each := (liveHeap() - before) * (1 << 20) / float64(conns)
	if n := m.at("a").Connections(); n != conns+100 {
		t.Errorf("%d are connected", n)
	}
	return each
}

// listenLooped has a server listen on TCP too, with connections that cost no
// goroutine.
func (m *mesh) listenLooped(id string) (where string) {
	m.t.Helper()
	s := m.at(id)
	loops, err := loop.New(loop.Config{Begin: s.Hold, End: s.Release})
	if err != nil {
		m.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, abort := context.WithCancel(context.Background())
	mux := http.NewServeMux()
	(&native.Handler{
		Core: s, Verifier: s.verifier, Tickets: s.tickets, MaxFrame: envelope.DefaultMaxFrame, Log: s.log, Context: ctx, Loops: loops,
	}).Register(mux)
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(l) }()
	m.t.Cleanup(func() {
		abort()
		_ = srv.Close()
		loops.Close()
	})
	return l.Addr().String()
}

// idle connects a device that says something, is answered, and does nothing
// from then on. Of its end only a descriptor stays, which is returned.
func (m *mesh) idle(where, id, says, want string) (fd int) {
	m.t.Helper()
	conn, in := m.dialLooped(where, id)
	defer conn.Close()
	m.sayLooped(conn, in, says, want)
	file, err := conn.File()
	if err != nil {
		m.t.Fatal(err)
	}
	defer file.Close()
	if fd, err = syscall.Dup(int(file.Fd())); err != nil {
		m.t.Fatal(err)
	}
	return fd
}

// dialLooped connects a device that follows topics, without a WebSocket library,
// and reads up to caught_up.
func (m *mesh) dialLooped(where, id string, topics ...string) (*net.TCPConn, *bufio.Reader) {
	m.t.Helper()
	conn, err := net.Dial("tcp", where)
	if err != nil {
		m.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "GET /ws?token=%s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", m.ticket(id, id, "a"), native.Subprotocol)
	in := bufio.NewReader(conn)
	if answer, err := http.ReadResponse(in, nil); err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		m.t.Fatalf("%v, %v", answer, err)
	}
	hello, err := json.Marshal(map[string]any{"control": "hello", "topics": topics})
	if err != nil {
		m.t.Fatal(err)
	}
	m.sayLooped(conn, in, string(hello), `"caught_up"`)
	return conn.(*net.TCPConn), in
}

// sayLooped sends a short frame and reads up to one that has what is wanted.
func (m *mesh) sayLooped(conn net.Conn, in *bufio.Reader, says, want string) {
	m.t.Helper()
	head := []byte{0x81, 0x80 | byte(len(says))}
	if len(says) > 125 {
		head = []byte{0x81, 0x80 | 126, byte(len(says) >> 8), byte(len(says))}
	}
	head = append(head, 0, 0, 0, 0) // a mask that leaves everything as it is
	if _, err := conn.Write(append(head, says...)); err != nil {
		m.t.Fatal(err)
	}
	for said := ""; !strings.Contains(said, want); {
		var err error
		if _, said, err = readFrame(in); err != nil {
			m.t.Fatal(err)
		}
	}
}

// readFrame reads a short frame of a server.
func readFrame(in *bufio.Reader) (op byte, payload string, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(in, head); err != nil {
		return 0, "", err
	}
	op = head[0] & 0x0f
	size := int(head[1])
	if size == 126 {
		if _, err := io.ReadFull(in, head); err != nil {
			return 0, "", err
		}
		size = int(binary.BigEndian.Uint16(head))
	}
	text := make([]byte, size)
	_, err = io.ReadFull(in, text)
	return op, string(text), err
}
