package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/hook"
)

// Hooks is where the app's backend is told what happens. The zero value tells
// nobody and costs nothing. All servers of a mesh have the same.
type Hooks struct {
	Receivers []hook.Receiver // each with a name of its own
	Timeout   time.Duration   // for one request; 0 means 10 s
	Client    *http.Client    // nil means one of its own for each
}

const (
	// maxHookQueue bounds the events that wait to be put into the outbox.
	maxHookQueue = 1 << 16
	// hookBatch bounds those of them that are under way there.
	hookBatch = 256
	// hookWithin bounds how long it may take to find out whether somebody is
	// connected whom a message is for.
	hookWithin = 2 * time.Second
	// hookEnd bounds what is done for events when the node ends.
	hookEnd = 2 * time.Second
)

// hooks puts events into the outbox, and has this server's share of it delivered.
//
// An event about a session, and one of a message that waits for somebody, is in
// the outbox before whoever has caused it is told that it is done; should the
// server die in between, the repetition makes up for it, with the same id. What
// concerns connections and receipts waits in a queue for the outbox: that must
// hold nobody up, and what is in the queue when the server dies is lost. But of
// its connections the others see that they are gone.
type hooks struct {
	// Static after construction.
	n          *Node
	deliverers []*hook.Deliverer // one for each receiver
	queue      chan *queued
	news       chan struct{} // a token when the servers of the mesh have changed
	revival    chan struct{} // a token when others have taken this one for dead

	stats HookStats
	turns turns
	late  late
	works questions[hookWork]
}

// HookStats counts events on their way to the outbox; [hook.Stats], behind it.
type HookStats struct {
	Recorded    atomic.Uint64 // in the outbox
	DroppedFull atomic.Uint64 // the queue was full
	DroppedRoom atomic.Uint64 // the outbox was
	DroppedEnd  atomic.Uint64 // they did not get there before this server ended
}

type queued struct {
	event hook.Event
	at    int64 // Unix milliseconds
	late  bool  // see [late]
}

// newHooks returns nil when nobody is to be told.
func newHooks(n *Node, cfg Hooks) *hooks {
	if len(cfg.Receivers) == 0 {
		return nil
	}
	h := &hooks{n: n, queue: make(chan *queued, maxHookQueue), news: make(chan struct{}, 1), revival: make(chan struct{}, 1)}
	for _, r := range cfg.Receivers {
		h.deliverers = append(h.deliverers, hook.NewDeliverer(hook.Config{
			Receiver: r, Timeout: cfg.Timeout, Client: cfg.Client, Outbox: outbox{n, r.Name}, Log: n.log,
		}))
	}
	return h
}

// wake says that there is something new in a log of the outbox.
func (h *hooks) wake(log envelope.Address) {
	if p, err := strconv.Atoi(log.ID); h != nil && err == nil && p >= 0 && p < hook.Partitions {
		for _, d := range h.deliverers {
			d.Wake(p)
		}
	}
}

func (h *hooks) run(ctx context.Context) {
	if h == nil {
		return
	}
	var wg sync.WaitGroup
	for _, d := range h.deliverers {
		wg.Go(func() { d.Run(ctx) })
	}
	wg.Go(func() { h.watchServers(ctx) })
	wg.Go(func() { h.keep(ctx) })
	h.record(ctx)
	wg.Wait()
}

// tell notes an event for the outbox. It never blocks.
func (h *hooks) tell(e hook.Event) {
	if e.ID == "" {
		e.ID = rand.Text()
	}
	h.enqueue(&queued{event: e, at: time.Now().UnixMilli()})
}

// tellLate is tell for one that was to be in the outbox at once. Those about the
// same that come later take the same way, until it is there.
func (h *hooks) tellLate(e hook.Event, at int64) {
	h.late.add(e.Subject)
	if !h.enqueue(&queued{event: e, at: at, late: true}) {
		h.late.remove(e.Subject)
	}
}

func (h *hooks) enqueue(q *queued) bool {
	select {
	case h.queue <- q:
		return true
	default:
		h.stats.DroppedFull.Add(1)
		return false
	}
}

// record puts into the outbox what was told, until ctx ends, and then what is left.
func (h *hooks) record(ctx context.Context) {
	for {
		select {
		case first := <-h.queue:
			batch := []*queued{first}
			for len(batch) < hookBatch && len(h.queue) > 0 {
				batch = append(batch, <-h.queue)
			}
			for wait := readRetry; ; wait = min(2*wait, readRetryMax) {
				if batch = h.put(ctx, batch); len(batch) == 0 {
					break
				}
				if pause(ctx, wait); ctx.Err() != nil {
					h.last(ctx, batch)
					return
				}
			}
		case <-ctx.Done():
			h.last(ctx, nil)
			return
		}
	}
}

// last does what it can for the events that are left.
func (h *hooks) last(ctx context.Context, batch []*queued) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hookEnd)
	defer cancel()
	for {
		for len(batch) < hookBatch && len(h.queue) > 0 {
			batch = append(batch, <-h.queue)
		}
		if len(batch) == 0 {
			return
		}
		if batch = h.put(ctx, batch); len(batch) > 0 {
			h.stats.DroppedEnd.Add(uint64(len(batch) + len(h.queue)))
			return
		}
	}
}

// put puts events into the outbox and returns those that are to be put there
// again, because the store refused them or has not answered in time, or because
// one before them was refused: it must not be overtaken.
func (h *hooks) put(ctx context.Context, batch []*queued) (again []*queued) {
	type outcome struct {
		i   int
		err error
	}
	done := make(chan outcome, len(batch))
	submitted := 0
	var mu sync.Mutex
	var passage passage // guarded by mu
	var refused bool    // guarded by mu
	for i, q := range batch {
		number := uint64(i) + 1
		mu.Lock()
		if refused {
			mu.Unlock()
			break
		}
		passage.begin(number)
		mu.Unlock()
		h.append(q.event, q.at, func(err error) {
			if err != nil {
				mu.Lock()
				passage.wait(&mu, number)
				refused = true
				mu.Unlock()
			}
			done <- outcome{i, err}
		})
		passage.end(&mu)
		submitted++
	}
	failed := make([]bool, len(batch))
	for i := range failed {
		failed[i] = true
	}
	for range submitted {
		select {
		case o := <-done:
			failed[o.i] = o.err != nil
			if q := batch[o.i]; q.late && o.err == nil {
				h.late.remove(q.event.Subject)
			}
			continue
		case <-ctx.Done():
		}
		break
	}
	for i, q := range batch {
		if failed[i] {
			again = append(again, q)
		}
	}
	return again
}

// append puts an event into the outbox. An error means that it may not be there
// and is to be put there again; done must not block.
func (h *hooks) append(e hook.Event, at int64, done func(err error)) {
	log := outboxLog(hook.Partition(e.Subject))
	// As the sender stands what the event is about: the events of each are kept in order.
	env := &envelope.Envelope{ID: e.ID, SrcNode: envelope.NodeID(e.Subject), Timestamp: at, Body: e.Said()}
	h.n.owners.append(log, env, func(_ uint64, err error) {
		switch envelope.CodeOf(err) {
		case "":
			h.stats.Recorded.Add(1)
		case envelope.Quota:
			h.stats.DroppedRoom.Add(1)
			err = nil
		case envelope.Conflict: // it is there, as somebody else has put it
			err = nil
		}
		done(err)
	})
}

// appendWait is append for a caller that waits.
func (h *hooks) appendWait(ctx context.Context, e hook.Event, at int64) error {
	done := make(chan error, 1)
	h.append(e, at, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return envelope.BusyError(1000, "the store did not answer in time", context.Cause(ctx))
	}
}

// connected says that a device has.
func (h *hooks) connected(c *conn) {
	if h != nil {
		h.tell(h.connection(c, hook.Connected))
	}
}

// disconnected says that a connection has ended, before it follows nothing any more.
func (h *hooks) disconnected(c *conn) {
	if h == nil {
		return
	}
	e := h.connection(c, hook.Disconnected)
	e.Reason = "closed"
	switch said := refusalOf(c.ctx.cause()); {
	case c.revoked.Load(): // though its client's answer may have been the first to end it
		e.Reason = string(envelope.Revoked)
	case said != nil:
		e.Reason = string(said.Code)
	}
	h.tell(e)
	own := c.who.Node.Address()
	c.mu.Lock()
	waits := uint64(0)
	if f := c.follows.Get(own); f != nil && f.started {
		if waits = f.shown; f.head > f.sent {
			waits = f.head
		}
		if waits <= f.acked {
			waits = 0
		}
	}
	c.mu.Unlock()
	if waits > 0 && e.Reason != string(envelope.Replaced) {
		h.tell(hook.Event{
			Type: hook.Offline, Subject: own.String(), Log: own.String(), MessageSeq: waits, Reason: "disconnected",
		})
	}
}

func (h *hooks) connection(c *conn, what hook.Type) hook.Event {
	return hook.Event{
		ID: c.id + ":" + string(what), Type: what, Subject: c.who.Node.Address().String(),
		Node: c.who.Node, Client: c.who.Client, Connection: c.id, Server: h.n.cfg.Graph.Self.ID,
	}
}

// noticed records what an entry of a session's log says of it. The entry is
// there; with an error, whoever completes what it belongs to comes here again.
func (h *hooks) noticed(ctx context.Context, log envelope.Address, env *envelope.Envelope, seq uint64) error {
	if h == nil || log.Kind != envelope.KindSession || !env.HasType {
		return nil
	}
	e := hook.Event{
		Subject: log.String(), Session: envelope.SessionID(log.ID), Node: env.SrcNode, Client: env.SrcClient,
		Log: log.String(), MessageSeq: seq,
	}
	switch env.Type {
	case envelope.TypeJoined:
		e.Type = hook.SessionJoined
	case envelope.TypeLeft:
		e.Type = hook.SessionLeft
	default:
		return nil
	}
	if seq == 1 {
		created := e
		created.ID, created.Type = log.String()+":created", hook.SessionCreated
		if err := h.appendWait(ctx, created, env.Timestamp); err != nil {
			return err
		}
	}
	e.ID = env.ID + ":" + string(e.Type)
	var said struct {
		Payload struct {
			By     envelope.NodeID `json:"by"`
			Reason string          `json:"reason"`
		} `json:"payload"`
	}
	if len(env.Body) > 0 && json.Unmarshal(append(append([]byte("{"), env.Body...), '}'), &said) == nil {
		e.By, e.Reason = said.Payload.By, said.Payload.Reason
	}
	return h.appendWait(ctx, e, env.Timestamp)
}

// waiting says that a durable message is in its log, and calls then once it is
// in the outbox that it waits there, if nobody is connected whom it is for. For
// what one sender has sent to one address, then is called in that order. It must
// not block.
func (h *hooks) waiting(log envelope.Address, env *envelope.Envelope, seq uint64, then func()) {
	if h == nil || log.Kind == envelope.KindSession {
		then()
		return
	}
	of := stream{log, env.SrcNode}
	known := !wakes(env) || h.n.conns.hasFollower(log)
	if known && h.turns.alone(of) {
		then()
		return
	}
	mine, acknowledge := h.turns.take(of), then
	then = func() { h.turns.tell(mine, acknowledge) }
	if known {
		then()
		return
	}
	e := hook.Event{
		ID: log.String() + ":" + strconv.FormatUint(seq, 10), Type: hook.Offline, Subject: log.String(), Log: log.String(),
		MessageSeq: seq, MessageID: env.ID, Src: env.SrcNode, SrcClient: env.SrcClient,
	}
	at := env.Timestamp
	var once sync.Once
	found := func(away bool) {
		once.Do(func() {
			if !away {
				then()
				return
			}
			if h.late.has(e.Subject) {
				h.tellLate(e, at)
				then()
				return
			}
			h.append(e, at, func(err error) {
				if err != nil {
					h.tellLate(e, at)
				}
				then()
			})
		})
	}
	unknown := time.AfterFunc(hookWithin, func() { found(true) })
	h.n.graph.Route(log, 0, func(servers []envelope.ServerID) {
		unknown.Stop()
		found(len(servers) == 0)
	})
}

// receipt says what the sender of a message is told of it.
func (h *hooks) receipt(a asked, read bool) {
	if h == nil {
		return
	}
	e := hook.Event{
		Type: hook.Delivered, Subject: a.log.String(), Log: a.log.String(), MessageSeq: a.seq, MessageID: a.id, Src: a.src,
		Node: a.reader.Node, Client: a.reader.Client,
	}
	if read {
		e.Type = hook.MessageRead
	}
	h.tell(e)
}

// pushFailed says that a notification to a device was given up. Of which log it
// was might tell whose an alias is.
func (h *hooks) pushFailed(device envelope.NodeID, service, reason string) {
	if h != nil {
		h.tell(hook.Event{
			Type: hook.PushFailed, Subject: device.Address().String(), Node: device, Service: service, Reason: reason,
		})
	}
}

// HookStats returns what became of events on this server, and who hands them to
// their receivers; nil when nobody is told of any.
func (n *Node) HookStats() (*HookStats, []*hook.Deliverer) {
	if n.hooks == nil {
		return nil, nil
	}
	return &n.hooks.stats, n.hooks.deliverers
}
