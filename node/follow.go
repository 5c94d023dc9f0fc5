package node

import (
	"math"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// follow is a connection's place in one log. Its fields are guarded by the
// connection's mu.
type follow struct {
	log     envelope.Address
	started bool           // sent means something; until then only head is kept
	sent    uint64         // handed to the lane up to here
	shown   uint64         // the last entry up to sent that the client is to see
	acked   uint64         // acknowledged by the client up to here
	goal    uint64         // the head when delivery began
	head    uint64         // the highest seq heard of
	live    bool           // sent == head as far as we know: offers go straight to the lane
	spans   []session.Span // of a session: the stays that the device may see
	pause   time.Duration  // before the next attempt to read the log
	paused  bool           // such a pause is on
	ending  bool           // somebody is about to stop following

	known        uint64 // of the entries sent after it, conn.receipts has those that asked for receipts
	read         uint64 // read by the user on this device up to here
	readAnywhere uint64 // on any device, as far as heard
	markOwed     bool   // the client has not been told of that
}

// own reports whether a message to a group or user is the device's own: it has
// the acknowledgement and gets no copy.
func (f *follow) own(env *envelope.Envelope, who envelope.Principal) bool {
	return f.log.Kind != envelope.KindNode && env.SrcNode == who.Node
}

// sees reports whether the device gets the next entry of the log. The device's
// own joining and leaving entries change what it sees after them: the log
// decides, not what a server believed when it started reading.
func (f *follow) sees(env *envelope.Envelope, who envelope.Principal) bool {
	if f.own(env, who) {
		if f.log.Kind == envelope.KindSession && env.HasType {
			f.observe(env)
		}
		return false
	}
	if f.log.Kind != envelope.KindSession {
		return true
	}
	return within(f.spans, env.Seq)
}

func (f *follow) observe(env *envelope.Envelope) {
	last := len(f.spans) - 1
	switch {
	case env.Type == envelope.TypeJoined && (last < 0 || f.spans[last].Until != 0 && env.Seq > f.spans[last].Until):
		f.spans = append(f.spans, session.Span{From: env.Seq})
	case env.Type == envelope.TypeLeft && last >= 0 && f.spans[last].Until == 0 && env.Seq > f.spans[last].From:
		f.spans[last].Until = env.Seq
	}
}

// open reports whether the device is in the session now; a log that is not a
// session's is always open.
func (f *follow) open() bool {
	if f.log.Kind != envelope.KindSession {
		return true
	}
	return len(f.spans) > 0 && f.spans[len(f.spans)-1].Until == 0
}

// over reports whether nothing in the log is left for the device to see or to
// acknowledge.
func (f *follow) over() bool {
	return f.started && !f.open() && f.acked >= f.shown && (len(f.spans) == 0 || f.sent >= f.spans[len(f.spans)-1].Until)
}

// acknowledge notes that the client has handled the log up to seq, and reports
// whether that is news. What the client does not get needs no acknowledgement.
func (f *follow) acknowledge(seq uint64) bool {
	if seq = min(seq, f.sent); !f.started || seq <= f.acked {
		return false
	}
	if f.acked = seq; seq >= f.shown {
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
	for _, f := range c.follows {
		if f.started && f.sent < f.goal {
			return false
		}
	}
	return true
}

// positions returns how far each log has been sent, as far as the client may
// know; under mu.
func (c *conn) positions() map[envelope.Address]uint64 {
	at := make(map[envelope.Address]uint64, len(c.follows))
	for log, f := range c.follows {
		at[log] = clampToStay(f.spans, f.sent)
	}
	return at
}

// hinted tells the connection of a log's head, as a peer or a sweep knows it.
func (c *conn) hinted(log envelope.Address, head uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.follows[log]; f != nil {
		if f.live && head > f.sent {
			c.n.stats.Repaired.Add(1)
		}
		c.hint(f, head)
	}
}

// reached returns how far the connection knows a log to go, and false until it
// has been told where that begins.
func (c *conn) reached(log envelope.Address) (head uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.follows[log]
	if f == nil || !f.started {
		return 0, false
	}
	return max(f.sent, f.head), true
}

// known returns how far the connection knows a log to go.
func (c *conn) known(log envelope.Address) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.follows[log]; f != nil {
		return max(f.sent, f.head)
	}
	return math.MaxInt64
}

// start says where delivery begins: behind the cursor, and never before the
// device's first stay in a session.
func (f *follow) start(cursor, head uint64) {
	if len(f.spans) > 0 {
		cursor = max(cursor, f.spans[0].From-1)
	}
	f.sent, f.shown, f.acked, f.known, f.head, f.goal = cursor, cursor, cursor, cursor, max(f.head, head), head
	f.started = true
	f.live = f.sent >= f.head
}
