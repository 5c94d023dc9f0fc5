package inbox

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// What a page of a log holds at most.
const (
	PageEntries = 100
	PageBytes   = 256 << 10
)

// How acknowledgements are gathered before they are written.
const (
	flushEvery  = time.Second
	flushBatch  = 1000
	maxUnsaved  = 1 << 20 // cursors
	flushRetry  = time.Second
	flushWithin = 5 * time.Second
)

// Inbox is a [Store] with what does not depend on the kind of store: waiting
// for an append, and gathering acknowledgements and read marks so that a thousand devices
// that each acknowledge every second cost a few writes. Its methods are safe
// for concurrent use.
type Inbox struct {
	Store
	log *slog.Logger

	lost atomic.Uint64

	kick    chan struct{} // holds a token when there is something to save
	flushes chan chan error

	mu      sync.Mutex
	unsaved marks // guarded by mu
	saving  marks // guarded by mu; being written, only Run changes it
	count   int   // guarded by mu; entries of unsaved
}

// marks are positions by reader and log.
type marks map[envelope.NodeID]map[envelope.Address]position

// position is how far a reader has got in a log. Both only move forward.
type position struct{ delivered, read uint64 }

func (p position) merge(q position) position {
	return position{max(p.delivered, q.delivered), max(p.read, q.read)}
}

// userPrefix cannot begin the id of a device.
const userPrefix = "~"

// UserReader names the cursors of a user: how far it has read each log on any
// of its devices. They have no Delivered position.
func UserReader(client envelope.ClientID) envelope.NodeID {
	return envelope.NodeID(userPrefix + string(client))
}

// OfUser reports whether a cursor is a user's (see [UserReader]) and not a
// device's.
func (c Cursor) OfUser() bool { return strings.HasPrefix(string(c.Node), userPrefix) }

// New returns an Inbox over a store. Cursors are written while [Inbox.Run] runs.
func New(store Store, log *slog.Logger) *Inbox {
	return &Inbox{
		Store:   store,
		log:     log,
		kick:    make(chan struct{}, 1),
		flushes: make(chan chan error),
		unsaved: make(marks),
	}
}

// Wait waits for the outcome of an append that start begins. When ctx ends
// first the outcome is unknown and the error has Busy.
func Wait(ctx context.Context, start func(done func(seq uint64, err error))) (uint64, error) {
	type result struct {
		seq uint64
		err error
	}
	done := make(chan result, 1)
	start(func(seq uint64, err error) { done <- result{seq, err} })
	select {
	case r := <-done:
		return r.seq, r.err
	case <-ctx.Done():
		return 0, envelope.BusyError(1000, "the store did not answer in time", context.Cause(ctx))
	}
}

// Acknowledge notes that a device has handled a log up to and including seq.
// It returns at once; the cursor is written soon after, and a crash in between
// repeats deliveries.
func (in *Inbox) Acknowledge(node envelope.NodeID, log envelope.Address, seq uint64) {
	in.note(node, log, position{delivered: seq})
}

// MarkRead notes that a user has read a log up to and including seq on one of
// its devices, which has handled it so far then. A device's own log is nothing
// to the user's other devices. It returns at once, like [Inbox.Acknowledge].
func (in *Inbox) MarkRead(node envelope.NodeID, client envelope.ClientID, log envelope.Address, seq uint64) {
	in.note(node, log, position{delivered: seq, read: seq})
	if log.Kind != envelope.KindNode {
		in.note(UserReader(client), log, position{read: seq})
	}
}

func (in *Inbox) note(reader envelope.NodeID, log envelope.Address, at position) {
	in.mu.Lock()
	of := in.unsaved[reader]
	if of == nil {
		of = make(map[envelope.Address]position, 1)
		in.unsaved[reader] = of
	}
	old, known := of[log]
	if !known {
		if in.count >= maxUnsaved {
			in.mu.Unlock()
			in.lost.Add(1)
			return
		}
		in.count++
	}
	of[log] = old.merge(at)
	in.mu.Unlock()
	select {
	case in.kick <- struct{}{}:
	default:
	}
}

// Cursors implements [Store] with what has not been written yet.
func (in *Inbox) Cursors(ctx context.Context, node envelope.NodeID) ([]Cursor, error) {
	// First what is on its way, then the store: between the two it arrives.
	noted := make(map[envelope.Address]position)
	in.mu.Lock()
	for _, m := range []marks{in.saving, in.unsaved} {
		for log, at := range m[node] {
			noted[log] = noted[log].merge(at)
		}
	}
	in.mu.Unlock()
	stored, err := in.Store.Cursors(ctx, node)
	if err != nil {
		return nil, err
	}
	for i, c := range stored {
		at := noted[c.Log].merge(position{c.Delivered, c.Read})
		stored[i].Delivered, stored[i].Read = at.delivered, at.read
		delete(noted, c.Log)
	}
	for log, at := range noted {
		stored = append(stored, Cursor{Node: node, Log: log, Delivered: at.delivered, Read: at.read})
	}
	return stored, nil
}

// Lost returns how many positions were dropped because the store was
// away for long. Each costs a repeated delivery.
func (in *Inbox) Lost() uint64 { return in.lost.Load() }

// Flush writes the cursors noted so far. It needs [Inbox.Run] to be running.
func (in *Inbox) Flush(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case in.flushes <- answer:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Run writes cursors until ctx ends, and what is left then.
func (in *Inbox) Run(ctx context.Context) {
	var asked []chan error // who waits for the next save
	wait := func(d time.Duration) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case answer := <-in.flushes:
			asked = append(asked, answer)
		case <-ctx.Done():
		}
	}
	for {
		select {
		case <-in.kick:
			if len(asked) == 0 {
				wait(flushEvery)
			}
		case answer := <-in.flushes:
			asked = append(asked, answer)
		case <-ctx.Done():
			if err := in.save(context.WithoutCancel(ctx)); err != nil {
				in.log.Warn("cursors not saved at the end; deliveries will repeat", "err", err)
			}
			return
		}
		asked = in.alsoAsking(asked)
		err := in.save(context.WithoutCancel(ctx))
		for _, answer := range asked {
			answer <- err
		}
		asked = asked[:0]
		if err != nil {
			in.log.Warn("cursors not saved; trying again", "err", err)
			wait(flushRetry)
		}
	}
}

// alsoAsking adds everybody who waits for a save now: a thousand connections
// that end at once share one.
func (in *Inbox) alsoAsking(asked []chan error) []chan error {
	for {
		select {
		case answer := <-in.flushes:
			asked = append(asked, answer)
		default:
			return asked
		}
	}
}

// save writes everything unsaved, in batches. What could not be written is
// unsaved again.
func (in *Inbox) save(ctx context.Context) error {
	in.mu.Lock()
	in.saving, in.unsaved, in.count = in.unsaved, make(marks), 0
	todo := in.saving
	in.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, flushWithin)
	defer cancel()

	var err error
	batch := make([]Cursor, 0, flushBatch)
	write := func() {
		if err == nil && len(batch) > 0 {
			err = in.Advance(ctx, batch)
		}
		if err != nil {
			for _, c := range batch {
				in.note(c.Node, c.Log, position{c.Delivered, c.Read})
			}
		}
		batch = batch[:0]
	}
	for node, of := range todo {
		for log, at := range of {
			batch = append(batch, Cursor{Node: node, Log: log, Delivered: at.delivered, Read: at.read})
			if len(batch) == flushBatch {
				write()
			}
		}
	}
	write()
	in.mu.Lock()
	in.saving = nil
	in.mu.Unlock()
	return err
}
