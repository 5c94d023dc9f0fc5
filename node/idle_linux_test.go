package node

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway/native"
	"github.com/allsparkrt/allspark/internal/loop"
)

// idleBytes is what the heap may hold for a connection that does nothing, of a
// device with one topic that ten share: epoll, node, edges and all. It is 2,400 or
// so. Resident memory is up to twice that.
const idleBytes = 3200

// An idle connection, over TCP, stays as small as it is.
func TestIdleConnectionBytes(t *testing.T) {
	const conns, shared = 2000, 10
	m := newMesh(t, 1, nil, false)
	defer m.close()
	where := m.listenLooped("a")
	clients := make([]int, 0, conns+100) // descriptors
	defer func() {
		for _, fd := range clients {
			_ = syscall.Close(fd)
		}
	}()
	for i := range 100 { // what grows once
		clients = append(clients, m.idle(where, fmt.Sprint("before", i), "topic:before"))
	}
	before := liveHeap()
	for i := range conns {
		clients = append(clients, m.idle(where, fmt.Sprint("device", i), fmt.Sprint("topic:room", i/shared)))
	}
	each := (liveHeap() - before) * (1 << 20) / conns
	t.Logf("%.0f bytes", each)
	if each > idleBytes {
		t.Errorf("%.0f bytes for an idle connection, more than %d", each, idleBytes)
	}
	if n := m.at("a").Connections(); n != conns+100 {
		t.Errorf("%d are connected", n)
	}
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

// idle connects a device that follows a topic and does nothing. Of its end only a
// descriptor stays, which is returned.
func (m *mesh) idle(where, id, topic string) (fd int) {
	m.t.Helper()
	conn, _ := m.dialLooped(where, id, topic)
	defer conn.Close()
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

// dialLooped connects a device that follows a topic, without a WebSocket library,
// and reads up to caught_up.
func (m *mesh) dialLooped(where, id, topic string) (*net.TCPConn, *bufio.Reader) {
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
	hello := fmt.Sprintf(`{"control":"hello","topics":[%q]}`, topic)
	if _, err := conn.Write(append([]byte{0x81, 0x80 | byte(len(hello)), 0, 0, 0, 0}, hello...)); err != nil {
		m.t.Fatal(err)
	}
	for said := ""; !strings.Contains(said, `"caught_up"`); {
		if _, said, err = readFrame(in); err != nil {
			m.t.Fatal(err)
		}
	}
	return conn.(*net.TCPConn), in
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
