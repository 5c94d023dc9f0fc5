package node

import (
	"cmp"
	"math"
	"slices"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/internal/few"
	"github.com/allsparkrt/allspark/session"
)

// follow is a connection's place in one log. Its fields are guarded by the
// connection's mu where nothing else is said.
type follow struct {
	c          *conn            // static
	log        envelope.Address // static
	prev, next *follow          // guarded by the registry's mu; see followers

	*stays        // of a session: those that the device may see; changed through its()
	sent   uint64 // handed to the lane up to here
	shown  uint64 // the last entry up to sent that the client is to see
	acked  uint64 // acknowledged by the client up to here
	goal   uint64 // the head when delivery began
	head   uint64 // the highest seq heard of
	owed   uint32 // times that the session's header has come to be due and not been told; nothing else is sent then
	failed uint8  // attempts to read the log in a row

	known        uint64 // of the entries sent after it, conn.receipts has those that asked for receipts
	read         uint64 // read by the user on this device up to here
	readAnywhere uint64 // on any device, as far as heard

	gone     bool // not followed any more: this place is taken out
	started  bool // sent means something; until then only head is kept
	live     bool // sent == head as far as we know: offers go straight to the lane
	paused   bool // before the next attempt to read the log
	ending   bool // somebody is about to stop following
	anew     bool // a header is owed for a stay of which nothing has been sent
	markOwed bool // the client has not been told of readAnywhere
	aliased  bool // of an alias: the session says whether it is in use
}

// What most logs share, for their follows to be small; never changed. Of the logs
// of devices and users there are no stays, and of a topic one that never ends.
var (
	noStays = new(stays)
	topical = &stays{spans: always()}
)

// sessionFollow is a place in a session's log together with the device's stays, and
// room for the one that there is in most: there may be hundreds for each connection,
// and one object costs the garbage collector less than three.
type sessionFollow struct {
	follow
	of  stays
	one [1]session.Span
}

func newFollow(c *conn, log envelope.Address, of stays) *follow {
	if len(of.spans) == 0 && of.alias == "" && !of.master {
		f := &follow{c: c, log: log, stays: noStays}
		f.aliased = f.room() != "" // in the log of an alias there are no stays
		return f
	}
	f := &sessionFollow{follow: follow{c: c, log: log}, of: of}
	f.of.spans = append(f.one[:0], of.spans...)
	f.stays = &f.of
	return &f.follow
}

// Key implements [few.Keyed].
func (f *follow) Key() envelope.Address { return f.log }

// followed is what a connection follows: mostly its device, its user and a few sessions.
type followed = few.Set[envelope.Address, *follow]

// room returns the session of the log of an alias; "" of another log.
func (f *follow) room() envelope.SessionID {
	if f.log.Kind != envelope.KindNode {
		return ""
	}
	id, _, _ := envelope.NodeID(f.log.ID).Alias()
	return id
}

// its returns the stays to be changed.
func (f *follow) its() *stays {
	if f.stays == noStays || f.stays == topical {
		own := f.clone()
		f.stays = &own
	}
	return f.stays
}

// crowned notes whether the device is the master of the game.
func (f *follow) crowned(is bool) {
	if is != f.master {
		f.its().master = is
	}
}

// learn adds what the store says of the device's stays. One that was not known
// here has been passed over if it began before the position: by an alias that
// was not known either. Then the log is read again from there. It reports
// whether there is anything to be told or read.
func (f *follow) learn(of stays) (again bool) {
	if len(of.spans) == 0 && of.alias == "" {
		return false
	}
	known, its := f.spans, f.its()
	its.spans, its.alias = merged(known, of.spans), cmp.Or(of.alias, its.alias)
	for _, span := range f.spans {
		news := !slices.ContainsFunc(known, func(k session.Span) bool { return k.From == span.From })
		if news && f.started {
			f.oweHeader(true)
			again = true
			if span.From > f.shown && span.From <= f.sent {
				f.rewind(span.From - 1)
			}
		}
	}
	return again
}

// rewind has the log read again from behind a position.
func (f *follow) rewind(to uint64) {
	f.head, f.sent, f.live = max(f.head, f.sent), to, false
	f.shown, f.acked, f.known = min(f.shown, to), min(f.acked, to), min(f.known, to)
}

// sees reports whether the device gets the next entry of the log. The device's
// own joining and leaving entries change what it sees after them: the log
// decides, not what a server believed when it started reading.
func (f *follow) sees(env *envelope.Envelope, who envelope.Principal) bool {
	f.crown(env, who)
	its := f.isOf(env, who)
	if its && f.log.Kind == envelope.KindSession && env.HasType && f.its().observe(env) {
		f.oweHeader(true)
	}
	switch {
	case f.own(f.log, env, who):
		return false
	case f.log.Kind != envelope.KindSession:
		return true
	}
	return f.within(env.Seq) && f.meant(env) && (its || f.told(env))
}

// hears reports whether what comes in a log now is for the device: always, but
// in a session's and in that of an alias only while it is in; under mu.
func (c *conn) hears(f *follow) bool {
	switch {
	case f.aliased:
		room := c.follows.Get(f.room().Address())
		return room != nil && room.open()
	case f.log.Kind == envelope.KindSession:
		return f.open()
	}
	return true
}

// finished reports whether nothing in a log is left for the device to see or to
// acknowledge: of a session that it has left, and then of its alias there; under mu.
func (c *conn) finished(f *follow) bool {
	over, end := !c.hears(f), f.head
	if last := len(f.spans) - 1; last >= 0 {
		end = f.spans[last].Until
	}
	if f.aliased {
		over = c.follows.Get(f.room().Address()) == nil
	}
	return f.started && over && f.acked >= f.shown && f.sent >= end
}

// acknowledge notes that the client has handled the log up to seq, and reports
// whether that is news. What the client does not get needs no acknowledgement;
// but until it acknowledges something of its last stay in a session, the
// header that came first may not have arrived.
func (f *follow) acknowledge(seq uint64) bool {
	if seq = min(seq, f.sent); !f.started || seq <= f.acked {
		return false
	}
	f.acked = seq
	if last := len(f.spans) - 1; seq >= f.shown && (last < 0 || seq >= f.spans[last].From) {
		f.acked = f.sent
	}
	return true
}

// replayed reports whether everything has been sent that was there when
// delivery began; under mu.
func (c *conn) replayed() bool {
	if c.joining {
		return false
	}
	for f := range c.follows.All() {
		if f.started && (f.sent < f.goal || f.owed > 0) {
			return false
		}
	}
	return true
}

// positions returns how far each log has been sent, as far as the client may
// know; under mu.
func (c *conn) positions() map[envelope.Address]uint64 {
	at := make(map[envelope.Address]uint64, c.follows.Len())
	for f := range c.follows.All() {
		log := f.log
		at[log] = f.clamp(f.sent)
	}
	return at
}

// hinted tells of the log's head, as a peer or a sweep knows it.
func (f *follow) hinted(head uint64) {
	c := f.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.gone {
		return
	}
	if f.live && head > f.sent {
		c.n.stats.Repaired.Add(1)
	}
	c.hint(f, head)
}

// reached returns how far the connection knows the log to go, and false until it
// has been told where that begins.
func (f *follow) reached() (head uint64, ok bool) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.gone || !f.started {
		return 0, false
	}
	return max(f.sent, f.head), true
}

// heard returns how far the connection has heard the log to go.
func (f *follow) heard() uint64 {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.gone {
		return math.MaxInt64
	}
	return max(f.sent, f.head)
}

// start says where delivery begins: behind the cursor, and never before what
// the device may see of a session. Of one in which it has seen nothing of its
// last stay, the header is due.
func (f *follow) start(cursor, head uint64) {
	last := len(f.spans) - 1
	if last >= 0 {
		cursor = max(cursor, f.first()-1)
	}
	f.sent, f.shown, f.acked, f.known, f.head, f.goal = cursor, cursor, cursor, cursor, max(f.head, head), head
	f.started = true
	f.live = f.sent >= f.head
	if last >= 0 && cursor < f.spans[last].From {
		f.oweHeader(true)
	}
}
