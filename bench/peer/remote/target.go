// Package remote has the connections of a target opened and read by other
// processes, the workers, because one process may have only so many files. To a
// scenario nothing changes; a message takes two hops more within the bench, so
// that its latency and the client's CPU time are higher.
package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/apart"
	"github.com/allsparkrt/allspark/bench/peer/wire"
	"github.com/allsparkrt/allspark/bench/process"
)

// Target is a target whose connections are spread over workers.
type Target struct {
	peer.Shared
	n       int
	command []string

	// Written by Start.
	dir     string
	workers []*worker
}

// Spread returns a target whose connections are opened by n workers; those of a user
// who comes back by the same one. command
// starts one; the name of a file for [Serve] is appended to it.
func Spread(t peer.Shared, n int, command []string) *Target {
	return &Target{Shared: t, n: n, command: command}
}

// Number returns how many workers there are.
func (t *Target) Number() int { return t.n }

// order is what a worker is started with.
type order struct {
	Target  string `json:"target"`
	Address string `json:"address"`
	Secret  string `json:"secret"`
	Apart   int    `json:"apart"`  // over so many servers; 0: the target is as it is
	Socket  string `json:"socket"` // where the bench listens
}

// startTimeout is how long a worker may take to report.
const startTimeout = 30 * time.Second

// Start starts the target and the workers.
func (t *Target) Start(ctx context.Context, env peer.Env) (err error) {
	if err := t.Shared.Start(ctx, env); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Stop())
		}
	}()
	if t.dir, err = os.MkdirTemp("", "bench"); err != nil { // addresses of sockets are short
		return err
	}
	at := t.Reach()
	o := order{Target: t.About().Name, Address: at.Address, Secret: at.Secret, Socket: filepath.Join(t.dir, "socket")}
	if islands, ok := t.Shared.(*apart.Target); ok {
		o.Apart = islands.Servers()
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	file := filepath.Join(t.dir, "order")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: o.Socket, Net: "unix"})
	if err != nil {
		return err
	}
	defer l.Close()
	for i := range t.n {
		w := &worker{conns: make(map[uint32]*client)}
		w.process, err = process.Start(process.Command{
			Program: t.command[0], Args: append(slices.Clone(t.command[1:]), file), Dir: t.dir, Name: fmt.Sprintf("worker%d", i+1),
		})
		if err != nil {
			return err
		}
		t.workers = append(t.workers, w)
		if err := l.SetDeadline(time.Now().Add(startTimeout)); err != nil {
			return err
		}
		nc, err := l.AcceptUnix()
		if err != nil {
			return fmt.Errorf("remote: no word from a worker: %w\n%s", err, w.process.Log())
		}
		if w.wire, err = env.Loop.Add(nc, nil, func(*wire.Conn) wire.Reader { return frames{w.hear, w.gone} }); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends the workers and what was started.
func (t *Target) Stop() error {
	var errs []error
	for _, w := range t.workers {
		if w.wire != nil {
			errs = append(errs, w.wire.Close())
		}
		errs = append(errs, w.process.Stop())
	}
	t.workers = nil
	if t.dir != "" {
		errs = append(errs, os.RemoveAll(t.dir))
	}
	return errors.Join(append(errs, t.Shared.Stop())...)
}

// Workers are the processes, whose CPU time is the bench's.
func (t *Target) Workers() (pids []int) {
	for _, w := range t.workers {
		pids = append(pids, w.process.PID())
	}
	return pids
}

// Connect has a worker open a connection.
func (t *Target) Connect(ctx context.Context, u peer.User, h peer.Handler) (peer.Client, error) {
	user, err := json.Marshal(u)
	if err != nil {
		return nil, err
	}
	w := t.workers[u.Index%len(t.workers)]
	c := w.add(h)
	if err := say(w.wire, open, c.id, text(user)); err != nil {
		return nil, err
	}
	select {
	case err := <-c.open:
		if err != nil {
			w.remove(c.id)
			return nil, err
		}
		return c, nil
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), c.Close())
	}
}

// worker is one process, as the bench sees it.
type worker struct {
	// Static after Start.
	process *process.Process
	wire    *wire.Conn

	mu    sync.Mutex
	last  uint32
	conns map[uint32]*client
	ended error
}

func (w *worker) add(h peer.Handler) *client {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	c := &client{worker: w, id: w.last, handler: h, open: make(chan error, 1)}
	w.conns[c.id] = c
	if w.ended != nil {
		c.open <- w.ended
	}
	return c
}

func (w *worker) remove(id uint32) (c *client) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c = w.conns[id]
	delete(w.conns, id)
	return c
}

// gone tells all connections that the worker has ended.
func (w *worker) gone(err error) {
	w.mu.Lock()
	w.ended = fmt.Errorf("remote: a worker has ended: %w", err)
	all := slices.Collect(maps.Values(w.conns))
	clear(w.conns)
	w.mu.Unlock()
	for _, c := range all {
		c.closed(w.ended)
	}
}

// hear handles what the worker says of a connection.
func (w *worker) hear(f frame) error {
	w.mu.Lock()
	c := w.conns[f.conn]
	w.mu.Unlock()
	if c == nil {
		return nil // closed by this side
	}
	h := c.handler
	switch f.kind {
	case opened:
		var err error
		if len(f.rest) > 0 {
			err = errors.New(string(f.rest))
		}
		c.tell(err)
	case body:
		if h.Message != nil {
			h.Message(f.rest)
		}
	case accepted, refused:
		tag, reason, err := readTag(f.rest)
		switch {
		case err != nil:
			return err
		case f.kind == accepted && h.Accepted != nil:
			h.Accepted(tag)
		case f.kind == refused && h.Refused != nil:
			h.Refused(tag, string(reason))
		}
	case receipt:
		if h.Receipt != nil {
			h.Receipt()
		}
	case ended:
		w.remove(c.id)
		c.closed(errors.New(string(f.rest)))
	default:
		return errFrame
	}
	return nil
}

// client is one connection, as the bench sees it. What a worker cannot send, it
// tells by ending the connection.
type client struct {
	worker  *worker
	id      uint32
	handler peer.Handler
	open    chan error // room for one: the first word counts
}

func (c *client) tell(err error) {
	select {
	case c.open <- err:
	default:
	}
}

func (c *client) closed(err error) {
	c.tell(err)
	if c.handler.Closed != nil {
		c.handler.Closed(err)
	}
}

// Send implements [peer.Client].
func (c *client) Send(to string, m peer.Message) error { return c.say(send, to, m) }

// Publish implements [peer.Client].
func (c *client) Publish(to string, m peer.Message) error { return c.say(publish, to, m) }

func (c *client) say(kind byte, to string, m peer.Message) error {
	return say(c.worker.wire, kind, c.id, func(b []byte) []byte { return appendMessage(b, to, m) })
}

// Watch implements [peer.Client].
func (c *client) Watch(users []string) error {
	list, err := json.Marshal(users)
	if err != nil {
		return err
	}
	return say(c.worker.wire, watch, c.id, text(list))
}

// Close implements [peer.Client].
func (c *client) Close() error {
	if c.worker.remove(c.id) == nil {
		return nil
	}
	return say(c.worker.wire, shut, c.id, nil)
}
