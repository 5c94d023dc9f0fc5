package node

import (
	"context"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/inbox"
)

// Receipts tell a device that messages of it, which asked for that, have been
// delivered to a device of another user, or read there. The truth is in the
// cursors, which never move back; a receipt is a hint that one of them has
// moved. So it is said once, for the newest message of a sender that the move
// has passed, it may be said again after a crash, and it gets lost when the
// sender is away: that one asks for a trace.
//
// A user's own devices give each other no receipts. Neither gives one a message
// whose time to live has passed by the time of the acknowledgement: nobody
// knows any more whether it came too late to be shown. And of what a device has
// to read in a session from when it was there by another name there are none:
// two names that read at the same moment would be known for one. Where only
// moderators see who is in a session, nobody else hears who reads there.

const (
	// maxRemembered bounds the messages that one connection remembers because they
	// asked for receipts. About older ones it asks the log.
	maxRemembered = 128
	// lookBack bounds the entries of a log that are looked at for receipts
	// when a position has moved over them: the newest ones.
	lookBack = 100
	// maxMoves bounds the moves of one connection's positions that wait for
	// their receipts to be told.
	maxMoves = 1024
	// maxLookUps bounds the moves for which the logs are asked at a time:
	// after an outage many devices come back at once.
	maxLookUps = 8
)

// asked is a message whose sender wants receipts.
type asked struct {
	log     envelope.Address
	seq     uint64
	id      string
	src     envelope.NodeID
	reader  envelope.Principal // who has got it, as its sender knows that
	expires int64              // Unix milliseconds; 0: never
}

// move is a position that has gone on in a log.
type move struct {
	log         envelope.Address
	after, upto uint64 // over the entries after the one, up to the other
	read        bool   // they were read, else delivered

	known   []asked // the newest message of each sender after unknown
	unknown uint64  // up to here the log has to be asked
	stays           // of a session: those that the device may see
}

// receipts is what a connection has to do with receipts to others; guarded by
// the connection's mu.
type receipts struct {
	asked   []asked // sent to the client and not read there, as far as remembered; oldest first
	moves   []move  // for which they are to be told
	telling bool    // somebody is at it
}

// receiptOf returns what a sender learns of the device that got its message.
func receiptOf(a asked, read bool) gateway.Receipt {
	return gateway.Receipt{ID: a.id, Log: a.log, Seq: a.seq, Read: read, Node: a.reader.Node, Client: a.reader.Client}
}

// mayHear decides whether a sender still learns what becomes of its message:
// who has left a session does not of those who are in it; under mu.
func (c *conn) mayHear(r gateway.Receipt) bool {
	f := c.follows.Get(r.Log)
	return r.Log.Kind != envelope.KindSession || f != nil && c.hears(f)
}

// asks reports whether the sender of a message wants a receipt from a device,
// with these stays in its log. It is the one place that decides as whom the
// device is named in it.
func asks(env *envelope.Envelope, who envelope.Principal, in *stays) (asked, bool) {
	if !env.Receipt || env.Seq == 0 || env.SrcClient == who.Client {
		return asked{}, false
	}
	log := env.Dest()
	a := asked{log: log, seq: env.Seq, id: env.ID, src: env.SrcNode, reader: in.reader(log, env.Seq, who)}
	if a.reader.Node == env.SrcNode || !in.still(log, a.reader, who) { // an alias writes to itself without its user
		return asked{}, false
	}
	if at, limited := env.Expires(); limited {
		a.expires = at.UnixMilli()
	}
	return a, true
}

// remember notes a message of a log that goes to the client; under mu.
func (c *conn) remember(f *follow, env *envelope.Envelope) {
	a, ok := asks(env, c.who, f.stays)
	if !ok {
		return
	}
	if c.receipts == nil {
		c.receipts = new(receipts)
	}
	if len(c.receipts.asked) >= maxRemembered {
		c.n.stats.ReceiptsForgotten.Add(1)
		oldest := c.receipts.asked[0]
		if f := c.follows.Get(oldest.log); f != nil {
			f.known = max(f.known, oldest.seq)
		}
		c.receipts.asked = slices.Delete(c.receipts.asked, 0, 1)
	}
	c.receipts.asked = append(c.receipts.asked, a)
}

// moved has the receipts told that are due when the client has got from one
// position of a log to another; under mu.
func (c *conn) moved(f *follow, after, upto uint64, read bool) {
	if after >= upto {
		return
	}
	m := move{log: f.log, after: after, upto: upto, read: read, unknown: min(f.known, upto)}
	if m.unknown > after {
		m.stays = f.clone()
	}
	if c.receipts == nil {
		if m.unknown <= after {
			return
		}
		c.receipts = new(receipts)
	}
	now := time.Now().UnixMilli()
	for _, a := range slices.Backward(c.receipts.asked) {
		if a.log == f.log && a.seq > after && a.seq <= upto && f.still(f.log, a.reader, c.who) {
			m.known = newest(m.known, a, now)
		}
	}
	if read {
		c.receipts.asked = slices.DeleteFunc(c.receipts.asked, func(a asked) bool { return a.log == f.log && a.seq <= upto })
	}
	switch {
	case len(m.known) == 0 && m.unknown <= after:
		return
	case len(c.receipts.moves) >= maxMoves:
		c.n.stats.ReceiptsUnknown.Add(upto - after)
		return
	}
	c.receipts.moves = append(c.receipts.moves, m)
	if !c.receipts.telling && !c.over {
		c.receipts.telling = true
		c.wg.Go(c.tellMoves)
	}
}

// newest adds a message to those of which receipts are told, unless there is a
// newer one of its sender.
func newest(all []asked, a asked, now int64) []asked {
	if a.expires != 0 && a.expires <= now {
		return all
	}
	i := slices.IndexFunc(all, func(other asked) bool { return other.src == a.src })
	switch {
	case i < 0:
		return append(all, a)
	case all[i].seq < a.seq:
		all[i] = a
	}
	return all
}

// tellMoves tells receipts in the order in which they came to be due.
func (c *conn) tellMoves() {
	for {
		c.mu.Lock()
		if len(c.receipts.moves) == 0 {
			c.receipts.telling, c.receipts.moves = false, nil
			c.mu.Unlock()
			return
		}
		m := c.receipts.moves[0]
		c.receipts.moves = c.receipts.moves[1:]
		c.mu.Unlock()
		c.n.tellMove(&c.ctx, c.who, m)
	}
}

// tellMove tells the senders of the messages that a device has got over.
func (n *Node) tellMove(ctx context.Context, reader envelope.Principal, m move) {
	due := m.known
	if m.unknown > m.after {
		due = n.lookUp(ctx, reader, m)
	}
	for _, a := range due {
		if a.log.Kind == envelope.KindSession {
			sees, err := n.sessions.SeesReaders(ctx, a.src, envelope.SessionID(a.log.ID))
			if err != nil {
				n.stats.ReceiptsUnknown.Add(1)
			}
			if !sees {
				continue
			}
		}
		n.stats.Receipts.Add(1)
		n.notify(a.src.Address(), "", receiptOf(a, m.read))
		n.hooks.receipt(a, m.read)
	}
}

// lookUp returns the newest message of each sender that asked for receipts: of
// those known, and of those in the part of the log that is not, which it reads
// as far back as lookBack.
func (n *Node) lookUp(ctx context.Context, reader envelope.Principal, m move) []asked {
	select {
	case n.lookUps <- struct{}{}:
		defer func() { <-n.lookUps }()
	case <-ctx.Done():
		n.stats.ReceiptsUnknown.Add(m.unknown - m.after)
		return m.known
	}
	due, after := m.known, m.after
	if m.unknown-after > lookBack {
		n.stats.ReceiptsUnknown.Add(m.unknown - after - lookBack)
		after = m.unknown - lookBack
	}
	for after < m.unknown {
		page, err := n.inbox.Read(ctx, m.log, after, int(m.unknown-after), inbox.PageBytes)
		if err != nil || len(page) == 0 {
			n.stats.ReceiptsUnknown.Add(m.unknown - after)
			return due
		}
		now := time.Now().UnixMilli()
		for i := range page {
			a, ok := asks(&page[i], reader, &m.stays)
			if ok && a.seq <= m.unknown && !m.own(m.log, &page[i], reader) && (m.log.Kind != envelope.KindSession || m.within(a.seq) && m.meant(&page[i])) {
				due = newest(due, a, now)
			}
		}
		after = page[len(page)-1].Seq
	}
	return due
}
