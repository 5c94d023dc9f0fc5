package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/apart"
	"github.com/allsparkrt/allspark/bench/peer/wire"
)

// Serve is a worker: it opens the connections that the bench wants, until the
// bench ends or ctx does. file is what [Spread] has appended to the command, and
// find returns the target of a name.
func Serve(ctx context.Context, file string, find func(name string) (peer.Target, error)) (err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var o order
	if err := json.Unmarshal(text, &o); err != nil {
		return fmt.Errorf("remote: %s: %w", filepath.Base(file), err)
	}
	target, err := find(o.Target)
	if err != nil {
		return err
	}
	if o.Apart > 0 {
		shared, ok := target.(peer.Shared)
		if !ok {
			return fmt.Errorf("remote: %s is not to be shared", o.Target)
		}
		target = apart.Of(shared, o.Apart)
	}
	loop, err := wire.NewLoop(max(1, runtime.NumCPU()/2))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, loop.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := target.Start(ctx, peer.Env{Address: o.Address, Secret: o.Secret, Loop: loop}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Stop()) }()
	nc, err := net.Dial("unix", o.Socket)
	if err != nil {
		return err
	}
	h := &host{ctx: ctx, target: target, conns: make(map[uint32]peer.Client), done: make(chan struct{})}
	_, err = loop.Add(nc, nil, func(c *wire.Conn) wire.Reader {
		h.wire = c
		return frames{h.hear, func(error) { close(h.done) }}
	})
	if err != nil {
		return err
	}
	select {
	case <-h.done:
	case <-ctx.Done():
	}
	cancel()
	h.dials.Wait()
	return nil
}

// host is the connections of one worker.
type host struct {
	// Static.
	ctx    context.Context // of all
	target peer.Target
	wire   *wire.Conn
	done   chan struct{} // closed when the bench has gone
	dials  sync.WaitGroup

	mu    sync.Mutex
	conns map[uint32]peer.Client
}

// hear does what the bench wants.
func (h *host) hear(f frame) error {
	if f.kind == open {
		var u peer.User
		if err := json.Unmarshal(f.rest, &u); err != nil {
			return err
		}
		h.dials.Go(func() { h.connect(f.conn, u) }) // the bench bounds how many at a time
		return nil
	}
	h.mu.Lock()
	c := h.conns[f.conn]
	h.mu.Unlock()
	if c == nil {
		return nil // has ended, and the bench is told
	}
	err := h.do(c, f)
	if errors.Is(err, errFrame) {
		return err
	}
	if err != nil {
		h.end(f.conn, err)
	}
	return nil
}

func (h *host) do(c peer.Client, f frame) error {
	switch f.kind {
	case send, publish:
		to, m, err := readMessage(f.rest)
		if err != nil {
			return err
		}
		if f.kind == send {
			return c.Send(to, m)
		}
		return c.Publish(to, m)
	case watch:
		var users []string
		if err := json.Unmarshal(f.rest, &users); err != nil {
			return errFrame
		}
		return c.Watch(users)
	case shut:
		h.mu.Lock()
		delete(h.conns, f.conn)
		h.mu.Unlock()
		return c.Close()
	}
	return errFrame
}

// connect opens a connection and says so. What arrives before that is told, too.
func (h *host) connect(id uint32, u peer.User) {
	// A wire that is gone ends the worker.
	tell := func(kind byte, add func([]byte) []byte) { _ = say(h.wire, kind, id, add) }
	c, err := h.target.Connect(h.ctx, u, peer.Handler{
		Message:  func(b []byte) { tell(body, text(b)) },
		Accepted: func(tag uint64) { tell(accepted, func(b []byte) []byte { return appendTag(b, tag, "") }) },
		Refused: func(tag uint64, reason string) {
			tell(refused, func(b []byte) []byte { return appendTag(b, tag, reason) })
		},
		Receipt: func() { tell(receipt, nil) },
		Closed:  func(err error) { h.end(id, err) },
	})
	if err != nil {
		tell(opened, text(err.Error()))
		return
	}
	h.mu.Lock()
	h.conns[id] = c
	h.mu.Unlock()
	tell(opened, nil)
}

// end tells the bench that a connection has broken.
func (h *host) end(id uint32, err error) {
	h.mu.Lock()
	delete(h.conns, id)
	h.mu.Unlock()
	_ = say(h.wire, ended, id, text(err.Error()))
}
