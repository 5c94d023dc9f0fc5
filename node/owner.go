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
// Order is kept because a log's appends go one way at a time: the owner is
// chosen anew only when none is under way. Those whose owner was lost are
// appended here, in order; the ids tell which of them were stored already.
type owners struct {
	n          *Node
	candidates atomic.Pointer[[]candidate]

	mu    sync.Mutex
	logs  map[envelope.Address]*ownedLog // guarded by mu; those with appends under way
	asked map[uint64]*appending          // guarded by mu; handed to other servers, by number
	last  uint64                         // guarded by mu
}

// candidate is a server that may own logs; link is nil for this one.
type candidate struct {
	id   envelope.ServerID
	link *link
}

type ownedLog struct {
	link    *link        // to the owner; nil: this server
	pending int          // appends under way
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
	o := &owners{n: n, logs: make(map[envelope.Address]*ownedLog), asked: make(map[uint64]*appending)}
	o.candidates.Store(&[]candidate{{}})
	return o
}

// refresh looks who may own logs now.
func (o *owners) refresh() {
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
	l := o.logs[log]
	first := l == nil
	if first {
		l = &ownedLog{link: o.owner(log)}
		o.logs[log] = l
	}
	l.pending++
	switch {
	case len(l.back) > 0:
		l.back = append(l.back, a)
		o.mu.Unlock()
	case l.link == nil:
		o.mu.Unlock()
		o.hereOwned(a)
	default:
		o.last++
		a.number, a.link = o.last, l.link
		o.asked[a.number] = a
		o.mu.Unlock()
		o.n.stats.Forwarded.Add(1)
		if !a.link.send(appendRecord(nil, recordAppend, appendBody(a, first))) && o.take(a.number, a.link) != nil {
			o.settle(a, 0, envelope.BusyError(500, "too much is waiting to be stored", nil))
		}
	}
}

// here appends on this server.
func (o *owners) here(log envelope.Address, env *envelope.Envelope, done func(seq uint64, err error)) {
	o.n.inbox.Append(log, env, func(seq uint64, err error) {
		if err != nil {
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
	l := o.logs[a.log]
	if l.pending--; l.pending == 0 {
		delete(o.logs, a.log)
	}
}

// take returns the append that was handed over under that number, once.
func (o *owners) take(number uint64, l *link) *appending {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := o.asked[number]
	if a == nil || a.link != l {
		return nil
	}
	delete(o.asked, number)
	return a
}

// lost takes back what an owner has not answered before its link ended.
func (o *owners) lost(l *link) {
	o.mu.Lock()
	var logs []envelope.Address
	var orphans []*appending
	for _, a := range o.asked {
		if a.link == l {
			orphans = append(orphans, a)
		}
	}
	slices.SortFunc(orphans, func(a, b *appending) int { return cmp.Compare(a.number, b.number) })
	for _, a := range orphans {
		delete(o.asked, a.number)
		log := o.logs[a.log]
		if len(log.back) == 0 {
			logs = append(logs, a.log)
		}
		log.link, log.back = nil, append(log.back, a)
	}
	o.mu.Unlock()
	o.n.stats.TakenBack.Add(uint64(len(orphans)))
	for _, log := range logs {
		for a := o.next(log); a != nil; a = o.next(log) {
			o.hereOwned(a)
			o.mu.Lock()
			if l := o.logs[log]; l != nil && len(l.back) > 0 && l.back[0] == a {
				l.back = l.back[1:]
			}
			o.mu.Unlock()
		}
	}
}

// next returns the first append to be made here, and leaves it in its place:
// what comes meanwhile must queue behind it until it has been handed on.
func (o *owners) next(log envelope.Address) *appending {
	o.mu.Lock()
	defer o.mu.Unlock()
	if l := o.logs[log]; l != nil && len(l.back) > 0 {
		return l.back[0]
	}
	return nil
}

// asked carries out an append for another server. After a refusal, what that
// server had sent before it heard of it is refused too, so that nothing
// overtakes the refused one: first says that it has heard.
func (p *peers) asked(from envelope.ServerID, number uint64, first bool, log envelope.Address, env *envelope.Envelope) {
	l := p.link(from)
	if l == nil {
		return // the other side takes it back
	}
	answer := func(seq uint64, err error) {
		if !l.send(appendRecord(nil, recordAppended, appendedBody(number, seq, err))) {
			_ = l.ws.CloseNow() // it would wait for ever
		}
	}
	if !l.mayAppend(log, first) {
		answer(0, envelope.BusyError(100, "an earlier message to this address was refused; send it again first", nil))
		return
	}
	p.n.owners.here(log, env, func(seq uint64, err error) {
		if err != nil && envelope.CodeOf(err).Retry() {
			l.refuseAppends(log)
		}
		answer(seq, err)
	})
}

// answered takes the outcome of an append that another server carried out.
func (p *peers) answered(from envelope.ServerID, number, seq uint64, err error) {
	if l := p.link(from); l != nil {
		if a := p.n.owners.take(number, l); a != nil {
			p.n.owners.settle(a, seq, err)
		}
	}
}
