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
	due      map[envelope.ClientID]bool   // guarded by mu; to be looked at; true: who is gone is told at once
	looks    uint64                       // guarded by mu; numbers the looks as they begin
	followed int                          // guarded by mu; users followed, once for each connection
}

// watch is one user that somebody here follows. Its fields are guarded by
// watchers.mu.
type watch struct {
	readers map[*conn]told
	looked  uint64            // the number of the look that the state is of; 0: none yet
	state   envelope.Presence // as told
	missing time.Time         // since when it is gone although the state is online
}

// told is what a connection was told last of a user.
type told uint8

const (
	untold told = iota // the answer to its subscription is to come
	toldOffline
	toldOnline
)

func toldOf(p envelope.Presence) told {
	if p.Online {
		return toldOnline
	}
	return toldOffline
}

func newWatchers(n *Node) *watchers {
	return &watchers{
		n: n, kick: make(chan struct{}, 1),
		watches: make(map[envelope.ClientID]*watch),
		due:     make(map[envelope.ClientID]bool),
	}
}

// subscribe makes a connection follow users, and answers with their presence.
// The connection is entered first and the edges are read second, so that no
// change falls between. Only c's read loop calls it.
func (w *watchers) subscribe(ctx context.Context, c *conn, clients []envelope.ClientID) error {
	var fresh []envelope.ClientID
	for _, client := range clients {
		if _, known := c.watched[client]; !known {
			fresh = append(fresh, client)
		}
	}
	if len(c.watched)+len(fresh) > maxWatched {
		return envelope.Errorf(envelope.Quota, "a connection follows the presence of at most %d users", maxWatched)
	}
	if !w.enter(c, fresh) {
		return envelope.BusyError(1000, "this server follows the presence of as many users as it can", nil)
	}
	if err := w.look(ctx, clients, false); err != nil {
		w.unsubscribe(c, fresh)
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock() // while replying: what changes from here on comes after the answer
	of := make([]envelope.Presence, len(clients))
	for i, client := range clients {
		at := w.watches[client]
		of[i] = at.state
		at.readers[c] = toldOf(at.state)
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
			at = &watch{readers: make(map[*conn]told, 1)}
			w.watches[client] = at
		}
		at.readers[c] = untold
		if c.watched == nil {
			c.watched = make(map[envelope.ClientID]struct{})
		}
		c.watched[client] = struct{}{}
	}
	return true
}

// unsubscribe takes back subscribe. Only c's read loop calls it.
func (w *watchers) unsubscribe(c *conn, clients []envelope.ClientID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, client := range clients {
		if _, known := c.watched[client]; known {
			w.followed--
		}
		delete(c.watched, client)
		if at := w.watches[client]; at != nil {
			delete(at.readers, c)
			if len(at.readers) == 0 {
				delete(w.watches, client)
				delete(w.due, client)
			}
		}
	}
}

// end takes back everything a connection follows. Only c's read loop calls it,
// or who comes after it.
func (w *watchers) end(c *conn) {
	all := make([]envelope.ClientID, 0, len(c.watched))
	for client := range c.watched {
		all = append(all, client)
	}
	w.unsubscribe(c, all)
}

// hint says that edges of addresses have been written or deleted. It never
// blocks.
func (w *watchers) hint(addrs ...envelope.Address) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, addr := range addrs {
		client := envelope.ClientID(addr.ID)
		if addr.Kind == envelope.KindClient && w.watches[client] != nil {
			w.mark(client, false)
		}
	}
}

// lookAgain has everybody looked at. With atOnce, who is gone has been for
// longer than goneAfter.
func (w *watchers) lookAgain(atOnce bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for client := range w.watches {
		w.mark(client, atOnce)
	}
}

// mark puts a user in line for a look; under mu.
func (w *watchers) mark(client envelope.ClientID, atOnce bool) {
	w.due[client] = w.due[client] || atOnce
	poke(w.kick)
}

// serversChanged has everybody looked at when servers have come or gone. The
// lease of one that crashed has been running out for seconds. One goroutine at
// a time.
func (w *watchers) serversChanged() {
	servers := make(map[envelope.ServerID]bool)
	for _, r := range w.n.graph.Servers() {
		servers[r.ID] = r.Draining
	}
	crashed := false
	for id, draining := range w.servers {
		if _, there := servers[id]; !there && !draining {
			crashed = true
		}
	}
	w.servers = servers
	w.lookAgain(crashed)
}

// run looks at who is due until ctx ends, and from time to time at everybody.
func (w *watchers) run(ctx context.Context) {
	for ctx.Err() == nil {
		every := w.n.timing.Sweep
		timer := time.NewTimer(every/2 + rand.N(every))
		select {
		case <-timer.C:
			w.lookAgain(false)
		case <-w.kick:
			pause(ctx, lookGather)
		case <-ctx.Done():
		}
		timer.Stop()
		for clients, atOnce := w.take(); len(clients) > 0 && ctx.Err() == nil; clients, atOnce = w.take() {
			if err := w.lookWithin(ctx, clients, atOnce); err != nil && ctx.Err() == nil {
				w.n.log.Warn("cannot look who is online; trying again", "users", len(clients), "err", err)
				w.putBack(clients, atOnce)
				pause(ctx, lookRetry)
			}
		}
	}
}

// take returns some of those to be looked at next, alike in atOnce.
func (w *watchers) take() (clients []envelope.ClientID, atOnce bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for client, urgent := range w.due {
		if len(clients) == 0 {
			atOnce = urgent
		}
		if urgent == atOnce {
			clients = append(clients, client)
			delete(w.due, client)
		}
		if len(clients) == lookBatch {
			break
		}
	}
	return clients, atOnce
}

func (w *watchers) putBack(clients []envelope.ClientID, atOnce bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, client := range clients {
		if w.watches[client] != nil {
			w.mark(client, atOnce)
		}
	}
}

func (w *watchers) lookWithin(ctx context.Context, clients []envelope.ClientID, atOnce bool) error {
	ctx, cancel := context.WithTimeout(ctx, presenceWithin)
	defer cancel()
	return w.look(ctx, clients, atOnce)
}

// look reads where users are and tells what has changed. Of two looks at the
// same time the one that began last is believed.
func (w *watchers) look(ctx context.Context, clients []envelope.ClientID, atOnce bool) error {
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
		if !first && !atOnce && w.settles(at, p) {
			continue
		}
		at.state, at.missing = p, time.Time{}
		for c, was := range at.readers {
			if was != untold && was != toldOf(p) {
				news[c] = append(news[c], p)
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
			w.watches[p.Client].readers[c] = toldOf(p)
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
	if at.missing.IsZero() {
		at.missing = time.Now()
		time.AfterFunc(goneAfter, func() { w.hint(p.Client.Address()) })
	}
	return time.Since(at.missing) < goneAfter
}
