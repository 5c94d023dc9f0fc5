package client

import (
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	// ackEvery and ackWithin say how soon what was handled is acknowledged:
	// whichever comes first.
	ackEvery  = 32
	ackWithin = time.Second

	// softBytes bounds the messages that wait for the user. While a send waits
	// for its answer it is hardBytes: the answer may be behind messages, and
	// the user who waits for it does not receive.
	softBytes = 1 << 20
	hardBytes = 16 << 20
)

// received keeps the messages that wait for the user, and how far each log has
// come. It does no I/O. All of it is guarded by Client.mu.
type received struct {
	limit int // messages that may wait
	queue []item
	bytes int // of the bodies in queue

	logs       map[envelope.Address]*position
	dirty      map[envelope.Address]*position // handled and not told the server
	handledNow int                            // messages handled since the last acknowledgement
	ackDue     time.Time                      // when dirty is to be told; zero when it is empty
}

// item is a message or a notice, in the order in which they came.
type item struct {
	msg      Message
	gap      *Gap
	header   *Header
	caughtUp map[envelope.Address]uint64
}

// position is how far one log has come. A gap starts a new generation, in which
// the seqs of messages received before mean nothing.
type position struct {
	generation uint64
	seen       uint64 // queued for the user, or further
	handled    uint64 // by the user
	told       uint64 // acknowledged to the server
	header     uint64 // seq of the session's header that was queued last
	forgotten  bool   // of another store: a gap is news wherever it is
}

func newReceived(limit int, cursors map[envelope.Address]uint64) received {
	r := received{
		limit: limit,
		logs:  make(map[envelope.Address]*position),
		dirty: make(map[envelope.Address]*position),
	}
	r.startAt(cursors)
	return r
}

// startAt sets the positions of logs that nothing has been received of.
func (r *received) startAt(cursors map[envelope.Address]uint64) {
	for log, n := range cursors {
		if pos := r.at(log); pos.seen < n {
			pos.seen, pos.handled = n, n
		}
	}
}

func (r *received) at(log envelope.Address) *position {
	pos := r.logs[log]
	if pos == nil {
		pos = new(position)
		r.logs[log] = pos
	}
	return pos
}

// full reports whether the reader must wait; sending says that a send waits
// for its answer.
func (r *received) full(sending bool) bool {
	if sending {
		return r.bytes >= hardBytes
	}
	return len(r.queue) >= r.limit || r.bytes >= softBytes
}

// push queues a message unless it has been received before.
func (r *received) push(e envelope.Envelope) {
	m := Message{Envelope: e}
	if e.Seq > 0 {
		pos := r.at(e.Dest())
		if e.Seq <= pos.seen {
			return
		}
		pos.seen = e.Seq
		m.generation = pos.generation
	}
	r.bytes += len(e.Body)
	r.queue = append(r.queue, item{msg: m})
}

// notice queues what is not a message. There are few of them, so that they
// need no room.
func (r *received) notice(it item) { r.queue = append(r.queue, it) }

func (r *received) pop() (item, bool) {
	if len(r.queue) == 0 {
		return item{}, false
	}
	it := r.queue[0]
	r.queue[0] = item{}
	r.queue = r.queue[1:]
	r.bytes -= len(it.msg.Body)
	if it.header != nil {
		r.bytes -= len(it.header.Document)
	}
	return it, true
}

// handle counts a message as handled, and with it everything before it in its
// log. It reports whether an acknowledgement has become due earlier.
func (r *received) handle(m Message, now time.Time) bool {
	if m.Seq == 0 {
		return false
	}
	log := m.Dest()
	pos := r.at(log)
	if m.generation != pos.generation || m.Seq <= pos.handled {
		return false
	}
	pos.handled = m.Seq
	if m.DestSession.IsTopic() {
		return false // of which the server keeps no positions
	}
	first := r.tell(log, pos, now)
	r.handledNow++
	if r.handledNow == ackEvery {
		r.ackDue = now
		return true
	}
	return first
}

// tell has a position acknowledged in time, and reports whether none was to be.
func (r *received) tell(log envelope.Address, pos *position, now time.Time) (first bool) {
	first = len(r.dirty) == 0
	r.dirty[log] = pos
	if first {
		r.ackDue = now.Add(ackWithin)
	}
	return first
}

// ack returns the acknowledgement when it is due, else nil and when it will be
// (zero: nothing is to be acknowledged). With flush it is always due.
func (r *received) ack(now time.Time, flush bool) (frame []byte, due time.Time) {
	if len(r.dirty) == 0 { // or restart took the last one back
		r.handledNow, r.ackDue = 0, time.Time{}
		return nil, time.Time{}
	}
	if !flush && now.Before(r.ackDue) {
		return nil, r.ackDue
	}
	c := envelope.Control{Control: envelope.ControlAck, Cursors: make(map[string]uint64, len(r.dirty))}
	for log, pos := range r.dirty {
		c.Cursors[log.String()] = pos.handled
		pos.told = pos.handled
	}
	clear(r.dirty)
	r.handledNow, r.ackDue = 0, time.Time{}
	return c.AppendJSON(nil), time.Time{}
}

// connected makes what the last connection may not have told due again.
func (r *received) connected(now time.Time) {
	for log, pos := range r.logs {
		if pos.told > 0 {
			r.dirty[log] = pos
		}
	}
	if len(r.dirty) > 0 && r.ackDue.IsZero() {
		r.ackDue = now.Add(ackWithin)
	}
}

// cursors returns where to resume: after what the user has handled. What waits
// in the queue comes again and is dropped then; it would be lost with this
// process if the server took it for handled.
func (r *received) cursors() map[envelope.Address]uint64 {
	out := make(map[envelope.Address]uint64)
	for log, pos := range r.logs {
		if pos.handled > 0 {
			out[log] = pos.handled
		}
	}
	return out
}

// gap notes that what follows in a log begins at floor, and queues a notice if
// that is news for the user. Until the user has been told, the entries before
// it do not count as handled: whoever comes after this process must hear of it.
func (r *received) gap(log envelope.Address, floor uint64) {
	pos := r.at(log)
	before := max(floor, 1) - 1
	switch {
	case before < pos.handled || pos.forgotten: // the position means nothing to the server
		r.restart(log, floor)
	case before <= pos.seen: // told by a connection before
		return
	default:
		pos.seen = before
	}
	r.notice(item{gap: &Gap{Log: log, Floor: floor}})
}

// told notes that the user has been told of a gap. It reports whether an
// acknowledgement has become due earlier.
func (r *received) told(g Gap, now time.Time) bool {
	pos := r.at(g.Log)
	if g.Floor <= pos.handled+1 {
		return false
	}
	pos.handled = g.Floor - 1
	if g.Log.Kind == envelope.KindSession && envelope.SessionID(g.Log.ID).IsTopic() {
		return false
	}
	return r.tell(g.Log, pos, now)
}

// restart puts a log to the position before floor.
func (r *received) restart(log envelope.Address, floor uint64) {
	pos := r.at(log)
	before := max(floor, 1) - 1
	*pos = position{generation: pos.generation + 1, seen: before, handled: before}
	delete(r.dirty, log)
}

// forget puts all logs to the beginning: the server has another store.
func (r *received) forget() {
	for log, pos := range r.logs {
		r.restart(log, 0)
		pos.forgotten = true
	}
}
