package node

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

const (
	// maxWatched bounds the users whose presence one connection follows.
	maxWatched = 1000
	// maxFollowed bounds those of all connections of a server, counted once
	// for each connection.
	maxFollowed = 1_000_000
	// goneAfter is how long a user must be gone before it is told: a device
	// that connects again, here or elsewhere, has not been away.
	goneAfter = 1500 * time.Millisecond

	lookBatch  = 500                   // users looked at in one question
	lookGather = 20 * time.Millisecond // so that a herd costs a few questions
	lookRetry  = time.Second
)

// watchers tells connections about users coming and going.
//
// Whatever happens is a hint to look at the edges: every server tells the
// others which users it has got its first connection of, or lost its last one;
// a server dies; a link breaks, on which hints may have been lost; time passes.
// Only the look decides, and each connection hears what differs from what it
// was told last. So subscribing writes nothing anywhere, and a lost hint costs
// time, never the truth.
type watchers struct {
	n    *Node
	kick chan struct{} // holds a token when somebody is to be looked at

	servers map[envelope.ServerID]bool // only serversChanged; those alive, true while draining

	mu       sync.Mutex
	watches  map[envelope.ClientID]*watch // guarded by mu; of users that somebody here follows
	line     lookLine                     // guarded by mu
	looks    uint64                       // guarded by mu; numbers the looks as they begin
	followed int                          // guarded by mu; users followed, once for each connection
}

func newWatchers(n *Node) *watchers {
	return &watchers{
		n: n, kick: make(chan struct{}, 1),
		watches: make(map[envelope.ClientID]*watch),
	}
}

// subscribe makes a connection follow users, and answers with their presence.
// The connection is entered first and the edges are read second, so that no
// change falls between. Only c's read loop calls it.
func (w *watchers) subscribe(ctx context.Context, c *conn, clients []envelope.ClientID) error {
	if c.watched == nil {
		c.watched = new(watched)
	}
	var fresh []envelope.ClientID
	for _, client := range clients {
		if c.watched.Get(client) == nil {
			fresh = append(fresh, client)
		}
	}
	if c.watched.Len()+len(fresh) > maxWatched {
		return envelope.Errorf(envelope.Quota, "a connection follows the presence of at most %d users", maxWatched)
	}
	if !w.enter(c, fresh) {
		return envelope.BusyError(1000, "this server follows the presence of as many users as it can", nil)
	}
	if err := w.look(ctx, clients, lookSoon); err != nil {
		w.unsubscribe(c, fresh)
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock() // while replying: what changes from here on comes after the answer
	of := make([]envelope.Presence, len(clients))
	for i, client := range clients {
		at := w.watches[client]
		of[i] = at.state
		at.readers.Put(reader{c, toldOf(at.state)})
	}
	c.reply(gateway.Presence{Of: of})
	return nil
}

// enter reports false when this server follows as many users as it can.
func (w *watchers) enter(c *conn, clients []envelope.ClientID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.followed+len(clients) > maxFollowed {
		return false
	}
	w.followed += len(clients)
	for _, client := range clients {
		at := w.watches[client]
		if at == nil {
			at = &watch{state: envelope.Presence{Client: client}}
			w.watches[client] = at
		}
		at.readers.Put(reader{c, untold})
		c.watched.Put(at)
	}
	return true
}

// unsubscribe takes back subscribe. Only c's read loop calls it.
func (w *watchers) unsubscribe(c *conn, clients []envelope.ClientID) {
	if c.watched == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, client := range clients {
		at := c.watched.Remove(client)
		if at == nil {
			continue
		}
		w.followed--
		at.readers.Remove(c)
		if at.readers.Len() == 0 {
			delete(w.watches, client)
			at.due = notDue
		}
	}
}

// end takes back everything a connection follows. Only c's read loop calls it,
// or who comes after it.
func (w *watchers) end(c *conn) {
	if c.watched == nil {
		return
	}
	all := make([]envelope.ClientID, 0, c.watched.Len())
	for at := range c.watched.All() {
		all = append(all, at.Key())
	}
	w.unsubscribe(c, all)
}

// hint says that edges of addresses have been written or deleted. It never
// blocks.
func (w *watchers) hint(addrs ...envelope.Address) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, addr := range addrs {
		if addr.Kind == envelope.KindClient {
			w.mark(w.watches[envelope.ClientID(addr.ID)], lookSoon)
		}
	}
}

// lookAgain has everybody looked at. With [lookNow], who is gone has been for
// longer than goneAfter.
func (w *watchers) lookAgain(how urgency) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range w.watches {
		w.mark(at, how)
	}
}

// mark puts a user in line for a look, if anybody follows it; under mu.
func (w *watchers) mark(at *watch, how urgency) {
	if at != nil {
		w.line.add(at, how)
		poke(w.kick)
	}
}

// serversChanged has everybody looked at when servers have come or gone. The
// lease of one that crashed has been running out for seconds. One goroutine at
// a time.
func (w *watchers) serversChanged() {
	servers := make(map[envelope.ServerID]bool)
	for _, r := range w.n.graph.Servers() {
		servers[r.ID] = r.Draining
	}
	how := lookSoon
	for id, draining := range w.servers {
		if _, there := servers[id]; !there && !draining {
			how = lookNow // it has crashed
		}
	}
	w.servers = servers
	w.lookAgain(how)
}

// run looks at who is due until ctx ends, and from time to time at everybody.
func (w *watchers) run(ctx context.Context) {
	for ctx.Err() == nil {
		every := w.n.timing.Sweep
		timer := time.NewTimer(every/2 + rand.N(every))
		select {
		case <-timer.C:
			w.lookAgain(lookSoon)
		case <-w.kick:
			pause(ctx, lookGather)
		case <-ctx.Done():
		}
		timer.Stop()
		for clients, how := w.take(); len(clients) > 0 && ctx.Err() == nil; clients, how = w.take() {
			if err := w.lookWithin(ctx, clients, how); err != nil && ctx.Err() == nil {
				w.n.log.Warn("cannot look who is online; trying again", "users", len(clients), "err", err)
				w.putBack(clients, how)
				pause(ctx, lookRetry)
			}
		}
	}
}

// take returns some of those to be looked at next, alike in urgency.
func (w *watchers) take() (clients []envelope.ClientID, how urgency) {
	w.mu.Lock()
	defer w.mu.Unlock()
	some, how := w.line.take()
	for _, at := range some {
		clients = append(clients, at.Key())
	}
	return clients, how
}

func (w *watchers) putBack(clients []envelope.ClientID, how urgency) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, client := range clients {
		w.mark(w.watches[client], how)
	}
}

func (w *watchers) lookWithin(ctx context.Context, clients []envelope.ClientID, how urgency) error {
	ctx, cancel := context.WithTimeout(ctx, presenceWithin)
	defer cancel()
	return w.look(ctx, clients, how)
}

// look reads where users are and tells what has changed. Of two looks at the
// same time the one that began last is believed.
func (w *watchers) look(ctx context.Context, clients []envelope.ClientID, how urgency) error {
	w.mu.Lock()
	w.looks++
	number := w.looks
	w.mu.Unlock()
	of, err := w.n.presence(ctx, clients)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock() // while telling: each connection hears of changes in their order
	news := make(map[*conn][]envelope.Presence)
	for _, p := range of {
		at := w.watches[p.Client]
		if at == nil || at.looked > number {
			continue
		}
		first := at.looked == 0
		at.looked = number
		if !first && how != lookNow && w.settles(at, p) {
			continue
		}
		at.state.Online, at.state.LastSeen, at.missing = p.Online, p.LastSeen, 0
		for r := range at.readers.All() {
			if r.was != untold && r.was != toldOf(p) {
				news[r.c] = append(news[r.c], p)
			}
		}
	}
	frames := make(presenceFrames)
	for c, changes := range news {
		frame := frames.of(c.codec, changes)
		c.mu.Lock()
		told := c.pushNotice(frame)
		c.mu.Unlock()
		if !told {
			continue // the next look tries again
		}
		for _, p := range changes {
			w.watches[p.Client].readers.Put(reader{c, toldOf(p)})
		}
	}
	return nil
}

// presenceFrames are the frames of single changes, encoded once for all
// connections that speak the same protocol: a user may have many readers.
type presenceFrames map[presenceFrame][]byte

type presenceFrame struct {
	form string // of [gateway.Codec].Shared
	of   envelope.Presence
}

// of returns the frame that tells changes.
func (f presenceFrames) of(codec gateway.Codec, changes []envelope.Presence) []byte {
	ev := gateway.Presence{Of: changes}
	if len(changes) > 1 {
		return codec.Append(nil, ev)
	}
	key := presenceFrame{codec.Shared(), changes[0]}
	if f[key] == nil {
		f[key] = codec.Append(nil, ev)
	}
	return f[key]
}

// settles reports whether a user that is gone may be back in a moment, and has
// it looked at again then; under mu.
func (w *watchers) settles(at *watch, p envelope.Presence) bool {
	if p.Online || !at.state.Online {
		return false
	}
	now := w.n.alarms.now()
	if at.missing == 0 {
		at.missing = max(now, 1)
		time.AfterFunc(goneAfter, func() { w.hint(p.Client.Address()) })
	}
	return now-at.missing < goneAfter
}
