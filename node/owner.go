package node

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/allsparkrt/allspark/envelope"
)

// owners takes each append to the one server of the mesh that owns the log.
//
// Any server may append to any log: the store decides. But servers that append
// to one log at the same time get in each other's way, and what they deliver
// arrives out of order. So on a store that servers share, all of them hand the
// appends of a log to the same one, chosen by rendezvous hashing over the
// servers they are linked to. Nothing depends on their agreeing.
//
// Order is kept because what one sender appends to one log goes one way at a
// time: the owner is chosen anew only when none of it is under way. What an
// owner was lost with is appended here, in order, and the ids tell what of it
// was stored already; but after a refusal it is refused.
type owners struct {
	n          *Node
	candidates atomic.Pointer[[]candidate]
	refreshing sync.Mutex

	mu     sync.Mutex
	ways   map[stream]*way       // guarded by mu; of streams with appends under way
	handed map[uint64]*appending // guarded by mu; handed to other servers, by number
	last   uint64                // guarded by mu
}

// candidate is a server that may own logs; link is nil for this one.
type candidate struct {
	id   envelope.ServerID
	link *link
}

// stream is what one sender appends to one log: what has an order to keep.
// Were it all that is appended to the log, then a log with many senders would
// never be without one under way.
type stream struct {
	log envelope.Address
	src envelope.NodeID
}

// way is where the appends of a stream go.
type way struct {
	link    *link        // to the owner; nil: this server
	pending int          // appends under way
	refused bool         // one of them, for now
	back    []*appending // to be appended here, in order
}

type appending struct {
	log    envelope.Address
	env    *envelope.Envelope
	done   func(seq uint64, err error)
	link   *link
	number uint64
}

func newOwners(n *Node) *owners {
	o := &owners{n: n, ways: make(map[stream]*way), handed: make(map[uint64]*appending)}
	o.candidates.Store(&[]candidate{{}})
	return o
}

// refresh looks who may own logs now.
func (o *owners) refresh() {
	o.refreshing.Lock() // what was seen last is stored last
	defer o.refreshing.Unlock()
	self := o.n.cfg.Graph.Self.ID
	list := []candidate{{id: self}}
	for _, r := range o.n.graph.Servers() {
		if l := o.n.peers.link(r.ID); r.ID != self && l != nil && !r.Draining {
			list = append(list, candidate{r.ID, l})
		}
	}
	o.candidates.Store(&list)
}

// owner chooses by rendezvous hashing: the server with the highest score.
func (o *owners) owner(log envelope.Address) *link {
	list := *o.candidates.Load()
	best, most := list[0].link, score(log, list[0].id)
	for _, c := range list[1:] {
		if s := score(log, c.id); s > most {
			best, most = c.link, s
		}
	}
	return best
}

// score is the FNV-1a hash of both names, mixed once more because FNV leaves
// the last bytes' differences in the low bits.
func score(log envelope.Address, id envelope.ServerID) uint64 {
	h := uint64(14695981039346656037)
	add := func(s string) {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211
	}
	h = (h ^ uint64(log.Kind)) * 1099511628211
	add(log.ID)
	add(string(id))
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	return h ^ h>>33
}

// append stores a message and hands it to its readers. The rules for done are
// those of inbox.Store.Append.
func (o *owners) append(log envelope.Address, env *envelope.Envelope, done func(seq uint64, err error)) {
	// Without an id nobody could tell whether a lost owner stored it.
	if !o.n.cfg.SharedStore || env.ID == "" {
		o.here(log, env, done)
		return
	}
	a := &appending{log: log, env: env, done: done}
	o.mu.Lock()
	w := o.ways[a.stream()]
	first := w == nil
	if first {
		w = &way{link: o.owner(log)}
		o.ways[a.stream()] = w
	}
	w.pending++
	switch {
	case len(w.back) > 0:
		w.back = append(w.back, a)
		o.mu.Unlock()
	case w.link == nil:
		o.mu.Unlock()
		o.hereOwned(a)
	default:
		o.last++
		a.number, a.link = o.last, w.link
		o.handed[a.number] = a
		o.mu.Unlock()
		o.hand(a, first)
	}
}

// hand gives an append to the owner; first says that no refusal is on its way
// from there.
func (o *owners) hand(a *appending, first bool) {
	o.n.stats.Forwarded.Add(1)
	if !a.link.send(recordAppend, appendBody(a, first)) && o.take(a.number, a.link) != nil {
		o.settle(a, 0, envelope.BusyError(500, "too much is waiting to be stored", nil))
	}
}

// here appends on this server.
func (o *owners) here(log envelope.Address, env *envelope.Envelope, done func(seq uint64, err error)) {
	o.n.inbox.Append(log, env, func(seq uint64, err error) {
		if err != nil {
			if envelope.CodeOf(err) == envelope.Quota {
				o.n.keeper.full(log)
			}
			done(0, err)
			return
		}
		o.n.stats.Stored.Add(1)
		done(seq, nil)
		o.n.publishStored(log, env, seq)
	})
}

func (o *owners) hereOwned(a *appending) {
	o.here(a.log, a.env, func(seq uint64, err error) { o.settle(a, seq, err) })
}

// settle tells the outcome. Only after that the append is no longer under way:
// the sender must have heard of a refusal before the log may go another way.
func (o *owners) settle(a *appending, seq uint64, err error) {
	a.done(seq, err)
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.ways[a.stream()]
	w.refused = w.refused || err != nil && envelope.CodeOf(err).Retry()
	if w.pending--; w.pending == 0 {
		delete(o.ways, a.stream())
	}
}

func (a *appending) stream() stream { return stream{a.log, a.env.SrcNode} }

// take returns the append that was handed over under that number, once.
func (o *owners) take(number uint64, l *link) *appending {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := o.handed[number]
	if a == nil || a.link != l {
		return nil
	}
	delete(o.handed, number)
	return a
}

// lost takes back what an owner has not answered before its link ended.
func (o *owners) lost(l *link) {
	o.mu.Lock()
	var streams []stream
	var orphans, refused []*appending
	for _, a := range o.handed {
		if a.link == l {
			orphans = append(orphans, a)
		}
	}
	slices.SortFunc(orphans, func(a, b *appending) int { return cmp.Compare(a.number, b.number) })
	for _, a := range orphans {
		delete(o.handed, a.number)
		w := o.ways[a.stream()]
		if w.refused { // the sender has heard that one before was refused
			refused = append(refused, a)
			continue
		}
		if len(w.back) == 0 {
			streams = append(streams, a.stream())
		}
		env := *a.env // append may still be encoding it
		w.link, w.back = nil, append(w.back, &appending{log: a.log, env: &env, done: a.done})
	}
	o.mu.Unlock()
	o.n.stats.TakenBack.Add(uint64(len(orphans) - len(refused)))
	for _, a := range refused {
		o.settle(a, 0, errEarlierRefused)
	}
	for _, s := range streams {
		for a := o.next(s); a != nil; a = o.next(s) {
			o.hereOwned(a)
			o.mu.Lock()
			if w := o.ways[s]; w != nil && len(w.back) > 0 && w.back[0] == a {
				w.back = w.back[1:]
			}
			o.mu.Unlock()
		}
	}
}

// next returns the first append to be made here, and leaves it in its place:
// what comes meanwhile must queue behind it until it has been handed on.
func (o *owners) next(s stream) *appending {
	o.mu.Lock()
	defer o.mu.Unlock()
	if w := o.ways[s]; w != nil && len(w.back) > 0 {
		return w.back[0]
	}
	return nil
}
