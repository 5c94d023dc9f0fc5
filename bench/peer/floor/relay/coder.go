//go:build linux

package main

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/coder/websocket"
)

// serveCoder serves with coder/websocket as its documentation shows it: a
// goroutine for each connection, which writes to others itself.
func serveCoder(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return http.Serve(listener, &coder{relay: newRelay[*websocket.Conn]()})
}

type coder struct {
	mu    sync.RWMutex
	relay relay[*websocket.Conn] // guarded by mu
}

// ServeHTTP is one connection.
func (s *coder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(maxMessage)
	ctx := context.Background()
	_, raw, err := ws.Read(ctx)
	if err != nil {
		return
	}
	m, err := parse(raw)
	if err != nil || m.kind != hello {
		return
	}
	user, topics := string(m.to), strings.Fields(string(m.body))
	s.mu.Lock()
	s.relay.join(ws, user, topics)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.relay.leave(ws, user, topics)
	}()
	if ws.Write(ctx, websocket.MessageBinary, []byte{joined}) == nil {
		s.hear(ctx, ws)
	}
}

// hear handles what one connection says, until it ends or makes no sense.
func (s *coder) hear(ctx context.Context, ws *websocket.Conn) {
	var to []*websocket.Conn
	var out []byte
	for {
		_, raw, err := ws.Read(ctx)
		if err != nil {
			return
		}
		m, err := parse(raw)
		if err != nil || m.kind != toUser && m.kind != toTopic {
			return
		}
		s.mu.RLock()
		to = s.relay.recipients(to[:0], m)
		s.mu.RUnlock()
		out = append(append(out[:0], delivery), m.body...)
		for _, other := range to {
			_ = other.Write(ctx, websocket.MessageBinary, out) // its own reader gets the error, too
		}
	}
}
