package graph

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	edgeBatch   = 512 // edges in one call of the store
	edgeWriters = 4   // calls of the store at a time
	maxTried    = 16  // edges of one address whose outcome is unknown
)

// holds counts who holds which address on this server, and makes the edges in
// the store follow.
//
// There is no queue of operations: an address knows whether it is wanted and
// which edge of it was written, and is put in line when the two differ. At
// most one writer has an address at a time, so writes for one address never
// overlap, and whatever happens meanwhile is seen when the writer is done.
type holds struct {
	// static
	ctx     context.Context
	store   Store
	self    envelope.ServerID
	timeout time.Duration            // of one call of the store
	written func([]envelope.Address) // edges written that no Attach waits for
	gone    func([]envelope.Address) // edges deleted
	counts  *counters
	log     *slog.Logger

	wg sync.WaitGroup // writers

	mu      sync.Mutex
	boot    string
	gen     uint64
	held    map[envelope.Address]*hold
	line    []*hold // in need of a writer
	writers int
	closed  bool
}

// hold is one address, from its first holder until its edge is deleted. There is
// one for every device and user that is connected, so what is needed only while
// its edge is being written is apart.
type hold struct {
	addr   envelope.Address
	refs   int32
	stored bool    // it is in the store, for certain, and nothing else of it
	inLine bool    // for a writer
	busy   bool    // a writer has it, or it waits to be tried again
	conn   string  // of the first holder
	boot   string  // of the edge put last, or tried to be; "": none was
	gen    uint64  // of that edge
	change *change // nil: the store has what is wanted
}

// change is a hold whose edge is to be written or deleted.
type change struct {
	tried   []Edge // those that may be in the store, the last one put at the end
	deleted bool   // a delete of them was tried since
	tries   int    // that failed in a row
	waiters []*attach
}

// attach is one call of Attach that waits for edges. Guarded by holds.mu.
type attach struct {
	left    int // edges
	changed []envelope.Address
	err     error
	done    chan struct{} // closed when left is 0 or err is set
}

// attach takes a reference to each address and returns when all of them have
// their edges in the store.
func (h *holds) attach(ctx context.Context, conn string, addrs []envelope.Address) ([]envelope.Address, error) {
	a := &attach{done: make(chan struct{})}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, envelope.Errorf(envelope.GoingAway, "the server is shutting down")
	}
	for _, addr := range addrs {
		e := h.held[addr]
		if e == nil {
			e = &hold{addr: addr}
			h.held[addr] = e
		}
		if e.refs++; e.refs == 1 {
			e.conn = conn
		}
		if h.inOrder(e) {
			continue
		}
		a.left++
		w := h.begin(e)
		w.waiters = append(w.waiters, a)
		h.push(e)
	}
	wait := a.left > 0
	h.mu.Unlock()
	if wait {
		select {
		case <-a.done:
		case <-ctx.Done():
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case a.err == nil && a.left == 0:
		return a.changed, nil
	case a.err == nil:
		a.err = context.Cause(ctx)
	}
	h.release(addrs)
	return nil, a.err
}

// detach gives references back.
func (h *holds) detach(addrs []envelope.Address) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.release(addrs)
}

// release gives references back. mu is held.
func (h *holds) release(addrs []envelope.Address) {
	for _, addr := range addrs {
		e := h.held[addr]
		if e == nil || e.refs == 0 {
			continue // not held: a caller's mistake must not take another's reference
		}
		e.refs--
		h.push(e)
	}
}

// claimed makes all edges be written anew for a new boot id.
func (h *holds) claimed(boot string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boot = boot
	for _, e := range h.held {
		h.push(e)
	}
}

// inOrder reports whether the store has what e wants. mu is held.
func (h *holds) inOrder(e *hold) bool {
	if e.refs == 0 {
		return !e.stored && (e.change == nil || len(e.change.tried) == 0)
	}
	return e.stored && e.boot == h.boot
}

// begin returns the change of e, and begins one if there is none. mu is held.
func (h *holds) begin(e *hold) *change {
	if e.change == nil {
		e.change = new(change)
		if e.stored {
			e.change.tried = []Edge{h.edge(e)}
		}
	}
	return e.change
}

// edge returns the edge of e that was put last.
func (h *holds) edge(e *hold) Edge {
	edge := Edge{Addr: e.addr, Server: h.self, Boot: e.boot, Gen: e.gen}
	if e.addr.Kind == envelope.KindNode {
		edge.Conn = e.conn
	}
	return edge
}

// push puts e in line for a writer if it needs one, and forgets it when it is
// done with. mu is held.
func (h *holds) push(e *hold) {
	switch {
	case e.inLine || e.busy || h.closed:
		return
	case !h.inOrder(e):
	case e.refs == 0:
		delete(h.held, e.addr)
		return
	default:
		e.change = nil
		return
	}
	h.begin(e)
	e.inLine = true
	h.line = append(h.line, e)
	if h.writers < edgeWriters {
		h.writers++
		h.wg.Go(h.work)
	}
}

// work writes batches until the line is empty.
func (h *holds) work() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.line) > 0 && !h.closed {
		h.batch()
	}
	h.writers--
}

// batch takes from the line and writes. mu is held, but for the calls of the store.
func (h *holds) batch() {
	var puts, deletes []*hold
	var putEdges, deleteEdges []Edge
	for len(h.line) > 0 && len(puts)+len(deletes) < edgeBatch {
		e := h.line[0]
		h.line[0] = nil
		h.line = h.line[1:]
		e.inLine = false
		switch {
		case h.inOrder(e):
			h.push(e)
			continue
		case e.refs > 0:
			h.choose(e)
			puts = append(puts, e)
			putEdges = append(putEdges, e.change.tried[len(e.change.tried)-1])
		default:
			deletes = append(deletes, e)
			deleteEdges = append(deleteEdges, e.change.tried...)
			e.change.deleted = true
		}
		e.stored = false
		e.busy = true
	}
	if len(puts) > 0 {
		h.mu.Unlock()
		err := h.call(putEdges, h.store.PutEdges)
		h.mu.Lock()
		unasked := h.putDone(puts, err)
		if len(unasked) > 0 {
			h.mu.Unlock()
			h.written(unasked)
			h.mu.Lock()
		}
	}
	if len(deletes) > 0 {
		h.mu.Unlock()
		err := h.call(deleteEdges, h.store.DeleteEdges)
		h.mu.Lock()
		if gone := h.deleteDone(deletes, err); len(gone) > 0 {
			h.mu.Unlock()
			h.gone(gone)
			h.mu.Lock()
		}
	}
}

// choose picks the edge to put for e. A put with an unknown outcome is repeated
// as it was. After a delete with an unknown outcome it must be another edge,
// because that delete may still arrive. mu is held.
func (h *holds) choose(e *hold) {
	w := e.change
	if len(w.tried) > 0 && !w.deleted && e.boot == h.boot {
		return
	}
	h.gen++
	e.boot, e.gen = h.boot, h.gen
	w.deleted = false
	if len(w.tried) == maxTried {
		w.tried = slices.Delete(w.tried, 0, 1)
	}
	w.tried = append(w.tried, h.edge(e))
}

func (h *holds) call(edges []Edge, f func(context.Context, []Edge) error) error {
	ctx, cancel := context.WithTimeout(h.ctx, h.timeout)
	defer cancel()
	return f(ctx, edges)
}

// putDone notes the outcome of PutEdges and returns the addresses for which no
// Attach was waiting. mu is held.
func (h *holds) putDone(puts []*hold, err error) (unasked []envelope.Address) {
	if err != nil {
		h.failed(puts, err)
		return nil
	}
	h.counts.edgePuts.Add(uint64(len(puts)))
	for _, e := range puts {
		w := e.change
		e.busy, w.tries = false, 0
		e.stored = true
		w.tried = w.tried[len(w.tried)-1:]
		if len(w.waiters) == 0 && e.refs > 0 {
			unasked = append(unasked, e.addr)
		}
		if h.inOrder(e) {
			for _, a := range w.waiters {
				a.changed = append(a.changed, e.addr)
				if a.left--; a.left == 0 && a.err == nil {
					close(a.done)
				}
			}
			w.waiters = nil
		}
		h.push(e)
	}
	return unasked
}

// deleteDone notes the outcome of DeleteEdges and returns the addresses that
// nobody holds. mu is held.
func (h *holds) deleteDone(deletes []*hold, err error) (gone []envelope.Address) {
	if err != nil {
		h.failed(deletes, err)
		return nil
	}
	h.counts.edgeDeletes.Add(uint64(len(deletes)))
	for _, e := range deletes {
		e.busy, e.change.tries = false, 0
		e.change.tried = nil
		if e.refs == 0 {
			gone = append(gone, e.addr)
		}
		h.push(e)
	}
	return gone
}

// has reports whether somebody here holds addr.
func (h *holds) has(addr envelope.Address) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.held[addr]
	return e != nil && e.refs > 0
}

// failed tells who waits, and has the writes tried again later. mu is held.
func (h *holds) failed(batch []*hold, err error) {
	h.counts.edgeErrors.Add(1)
	h.log.Warn("edges could not be written", "edges", len(batch), "err", err)
	tries := 0
	for _, e := range batch {
		h.refuse(e, envelope.BusyError(retryFirst.Milliseconds(), "the store is away", err))
		e.change.tries++
		tries = max(tries, e.change.tries)
	}
	time.AfterFunc(backoff(tries-1), func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, e := range batch {
			e.busy = false
			h.push(e)
		}
	})
}

// refuse ends the wait of all who wait for e. mu is held.
func (h *holds) refuse(e *hold, err error) {
	if e.change == nil {
		return
	}
	for _, a := range e.change.waiters {
		if a.err == nil && a.left > 0 {
			a.err = err
			close(a.done)
		}
	}
	e.change.waiters = nil
}

// close ends all waiting and waits for the writers. Edges stay as they are.
func (h *holds) close() {
	h.mu.Lock()
	h.closed = true
	h.line = nil
	for _, e := range h.held {
		h.refuse(e, envelope.Errorf(envelope.GoingAway, "the server is shutting down"))
	}
	h.mu.Unlock()
	h.wg.Wait()
}
