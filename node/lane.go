package node

import (
	"errors"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/internal/stack"
)

// lane holds the frames that wait to be written to one connection.
type lane struct {
	free *sync.Pool // static; of *laneMemory

	bytes  int
	latest map[slot]int // index in memory.frames of the newest value of a slot
	memory *laneMemory  // where frames are; nil while there is none
	taken  *laneMemory  // and those that are being written
}

// laneMemory is memory for frames that wait, and for acknowledgements among them,
// which are as many as messages and are soon written. A lane has it while something
// waits.
type laneMemory struct {
	frames []waiting
	acks   []byte
}

// maxAckBytes is how much memory for acknowledgements is used again.
const maxAckBytes = 8 << 10

// waiting is a frame that waits to be written.
type waiting struct {
	frame   []byte
	expires int64 // when it comes too late, Unix milliseconds; 0: never
}

// writable reports whether a frame is to be written now: the protocol has words
// for the event, and it does not come too late, having waited long behind others.
func (w waiting) writable(n *Node) bool {
	late := w.expires != 0 && time.Now().UnixMilli() >= w.expires
	if late {
		n.stats.Expired.Add(1)
	}
	return !late && len(w.frame) > 0
}

// slot is what messages of class latest replace each other in.
type slot struct {
	src envelope.NodeID
	to  envelope.Address
	key string
}

// count returns how many frames wait.
func (l *lane) count() int {
	if l.memory == nil {
		return 0
	}
	return len(l.memory.frames)
}

func (l *lane) full() bool { return l.count() >= windowMessages || l.bytes >= windowBytes }

// crowded reports whether so much waits that nothing is read that would be answered.
func (l *lane) crowded() bool { return l.count() >= maxReplies || l.bytes >= maxReplyBytes }

func (l *lane) push(frame []byte) { l.add(waiting{frame: frame}) }

// pushAck is push for an acknowledgement. It reports false when the protocol has
// no words for it.
func (l *lane) pushAck(ack gateway.Ack, codec gateway.Codec) bool {
	l.borrow()
	from := len(l.memory.acks)
	l.memory.acks = codec.AppendAck(l.memory.acks, ack)
	frame := l.memory.acks[from:]
	if len(frame) > 0 {
		l.push(frame)
	}
	return len(frame) > 0
}

// pushMessage is push for a message, which may come too late.
func (l *lane) pushMessage(m *encoded, codec gateway.Codec) { l.add(m.waiting(codec)) }

// borrow has memory there.
func (l *lane) borrow() {
	if l.memory == nil {
		l.memory = l.free.Get().(*laneMemory)
	}
}

func (l *lane) add(w waiting) {
	l.borrow()
	l.memory.frames = append(l.memory.frames, w)
	l.bytes += len(w.frame)
}

// replace puts a message where an older value of its slot waits. The window may be full:
// a slow reader is to have the newest values. But many small ones may grow large: where
// that would make twice a window, the older value stays, and replace reports false.
func (l *lane) replace(i int, m *encoded, codec gateway.Codec) bool {
	w := m.waiting(codec)
	old := len(l.memory.frames[i].frame)
	others := l.bytes - old
	if len(w.frame) > old && others >= windowBytes && others+len(w.frame) > 2*windowBytes {
		return false
	}
	l.bytes = others + len(w.frame)
	l.memory.frames[i] = w
	return true
}

// take empties the lane.
func (l *lane) take() (frames []waiting) {
	if l.memory != nil {
		frames = l.memory.frames
	}
	l.taken, l.memory, l.bytes = l.memory, nil, 0
	clear(l.latest)
	return frames
}

// giveBack returns a slice that take gave, when its frames are written.
func (l *lane) giveBack(frames []waiting) {
	clear(frames)
	if m := l.taken; m != nil && cap(m.acks) <= maxAckBytes && cap(frames) <= windowMessages {
		m.frames, m.acks = frames[:0], m.acks[:0]
		l.free.Put(m)
	}
	l.taken = nil
}

// encoded is a message encoded at most once for all connections that speak
// the same protocol. One goroutine at a time.
type encoded struct {
	env   *envelope.Envelope
	form  string
	frame []byte
}

func (e *encoded) bytes(codec gateway.Codec) []byte {
	if e.frame == nil || e.form != codec.Shared() {
		e.form = codec.Shared()
		e.frame = codec.Append(make([]byte, 0, len(e.env.Body)+256), gateway.Message{Envelope: e.env})
	}
	return e.frame
}

func (e *encoded) waiting(codec gateway.Codec) waiting {
	w := waiting{frame: e.bytes(codec)}
	if at, limited := e.env.Expires(); limited {
		w.expires = at.UnixMilli()
	}
	return w
}

// reply queues an event about the connection itself. There is always room:
// the read loop stops when too much waits.
func (c *conn) reply(ev gateway.Event) {
	frame := c.codec.Append(nil, ev)
	if len(frame) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lane.push(frame)
	c.writeSoon()
}

// acknowledged queues an acknowledgement.
func (c *conn) acknowledged(ack gateway.Ack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lane.pushAck(ack, c.codec) {
		c.writeSoon()
	}
}

// waitForRoom blocks the read loop while the client does not read its replies.
func (c *conn) waitForRoom() error {
	for {
		c.mu.Lock()
		if !c.lane.crowded() {
			c.mu.Unlock()
			return nil
		}
		if !c.awaitDrain() {
			return c.ctx.Err()
		}
	}
}

// awaitDrain waits until the write loop takes what waits in the lane. It unlocks mu,
// and reports false when the connection is over.
func (c *conn) awaitDrain() bool {
	if c.drained == nil {
		c.drained = make(chan struct{})
	}
	drained := c.drained
	c.mu.Unlock()
	select {
	case <-drained:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// offer hands a message of the log's address to the connection and never blocks. What
// has no room is read from the log later, or dropped and counted if it is in none.
func (f *follow) offer(m *encoded) {
	c := f.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.gone || c.over {
		return
	}
	if m.env.Seq == 0 {
		c.offerVolatile(f, m)
		return
	}
	if !f.live || m.env.Seq != f.sent+1 || c.lane.full() {
		c.hint(f, m.env.Seq)
		return
	}
	f.sent = m.env.Seq
	if f.sees(m.env, c.who) {
		f.shown = f.sent
		c.remember(f, m.env)
		c.lane.pushMessage(m, c.codec)
		c.writeSoon()
	}
	if f.owed > 0 { // it was the device's own joining
		c.wake()
	}
	c.endIfLeft(f)
}

func (c *conn) offerVolatile(f *follow, m *encoded) {
	if !c.hears(f) || f.own(f.log, m.env, c.who) {
		return
	}
	if !f.started { // nothing comes before the answer to hello
		c.n.stats.DroppedAway.Add(1)
		return
	}
	s := slot{m.env.SrcNode, m.env.Dest(), m.env.Key}
	latest := m.env.Class == envelope.Latest
	i, waits := 0, false
	if latest {
		i, waits = c.lane.latest[s]
	}
	switch {
	case waits && c.lane.replace(i, m, c.codec):
		c.n.stats.Conflated.Add(1)
		return
	case waits || c.lane.full():
		c.n.stats.DroppedSlow.Add(1)
		return
	}
	if latest {
		if c.lane.latest == nil {
			c.lane.latest = make(map[slot]int)
		}
		c.lane.latest[s] = c.lane.count()
	}
	c.lane.pushMessage(m, c.codec)
	c.writeSoon()
}

// hint says that a log has an entry with that seq; under mu. A position behind
// it makes the write loop read the log.
func (c *conn) hint(f *follow, seq uint64) {
	f.head = max(f.head, seq)
	if f.sent < f.head {
		f.live = false
		c.wake()
	}
}

// wake starts the write loop if there is none, and has it look at all that is
// followed: something may be behind; under mu.
func (c *conn) wake() {
	c.lagging = true
	c.writeSoon()
}

// writeSoon starts the write loop if there is none, for what waits in the lane;
// under mu.
func (c *conn) writeSoon() {
	switch {
	case c.writing || c.over:
		return
	case c.waiter != nil && c.handy():
		c.wg.Add(1)
		c.n.flusher.add(c)
	default:
		c.wg.Go(c.writeLoop)
	}
	c.writing = true
}

// handy reports whether all there is to do for the connection is to write what
// waits in the lane; under mu.
func (c *conn) handy() bool { return !c.lagging && !c.replaying && !c.owesMarks && c.goodbye == nil }

// flush writes what waits in the lane without waiting for the network. What that
// does not do is left to a write loop.
func (c *conn) flush() {
	defer c.wg.Done()
	for {
		c.mu.Lock()
		switch {
		case !c.handy():
			c.wg.Go(c.writeLoop)
			c.mu.Unlock()
			return
		case c.lane.count() == 0:
			c.writing = false
			c.mu.Unlock()
			return
		}
		frames, stored := c.takeLane()
		if left, err := c.queue(frames); left > 0 && err == nil {
			c.wg.Go(func() {
				if c.drain(left) {
					c.written(frames, stored)
					c.writeLoop()
				}
			})
			return
		} else if err != nil {
			c.cancel(err)
			return // writing stays true: the connection is over
		}
		c.written(frames, stored)
	}
}

// takeLane empties the lane to be written; it unlocks mu.
func (c *conn) takeLane() (frames []waiting, stored map[envelope.Address]uint64) {
	frames = c.lane.take()
	c.flushing = true
	stored = c.sentMarks()
	if c.drained != nil {
		close(c.drained)
		c.drained = nil
	}
	c.mu.Unlock()
	return frames, stored
}

// queue puts frames on the wire as far as that needs no waiting, and returns how
// many bytes are left.
func (c *conn) queue(frames []waiting) (left int, err error) {
	queued := uint64(0)
	for _, w := range frames {
		if !w.writable(c.n) {
			continue
		}
		if err := c.waiter.Queue(w.frame); err != nil {
			return 0, err
		}
		queued++
	}
	c.n.stats.FramesOut.Add(queued)
	return c.waiter.Flush()
}

// drain waits until the bytes left are on the wire. It returns false when the
// connection broke.
func (c *conn) drain(left int) bool {
	if left == 0 {
		return true
	}
	c.blocked.Store(true)
	defer c.blocked.Store(false)
	for left > 0 {
		c.stalls()
		var err error
		if left, err = c.waiter.Drain(); err != nil {
			c.cancel(err)
			return false
		}
	}
	c.stall.Stop()
	return true
}

// written does what is to be done when frames are on the wire.
func (c *conn) written(frames []waiting, stored map[envelope.Address]uint64) {
	c.mu.Lock()
	c.lane.giveBack(frames)
	c.flushing = false
	c.mu.Unlock()
	c.confirmDelivery(stored)
}

// writeLoop writes what waits, then what is behind, and ends when there is
// nothing of either.
func (c *conn) writeLoop() {
	stack.Reserve()
	for c.writeSome() {
	}
}

// writeSome does one piece of the write loop's work. It returns false when the
// loop must end; writing is false then, or the connection over.
func (c *conn) writeSome() bool {
	c.mu.Lock()
	if c.replaying && c.replayed() {
		c.replaying = false
		c.lane.push(c.codec.Append(nil, gateway.CaughtUp{Heads: c.positions()}))
	}
	if c.lane.count() > 0 && !c.parting {
		c.parting = c.goodbye != nil // what waits now is the last
		frames, stored := c.takeLane()
		if !c.write(frames) {
			return false
		}
		c.written(frames, stored)
		c.mu.Lock() // and now the logs: for a slow reader something may always wait
		c.payMarks()
	}
	more := c.lane.count() > 0 && !c.parting
	if bye := c.goodbye; bye != nil {
		c.mu.Unlock()
		if !more {
			c.t.Close(bye.Code, bye.Detail)
			c.cancel(bye)
		}
		return more // when there is none writing stays true: nothing follows a goodbye
	}
	if behind, headers := c.behind(); len(behind)+len(headers) > 0 && c.ctx.Err() == nil {
		c.mu.Unlock()
		if len(headers) > 0 {
			c.tellHeaders(headers)
		} else {
			c.catchUp(behind)
		}
		return true
	}
	c.writing = more || c.replaying && c.replayed()
	more = c.writing
	c.mu.Unlock()
	return more
}

// write puts frames on the wire. It returns false when the connection broke.
func (c *conn) write(frames []waiting) bool {
	if c.waiter != nil {
		left, err := c.queue(frames)
		if err != nil {
			c.cancel(err)
			return false
		}
		return c.drain(left)
	}
	for _, w := range frames {
		if !w.writable(c.n) {
			continue
		}
		c.stalls()
		c.blocked.Store(true)
		err := c.t.Write(w.frame)
		c.blocked.Store(false)
		if err != nil {
			c.cancel(err)
			return false
		}
		c.n.stats.FramesOut.Add(1)
	}
	if c.stall != nil {
		c.stall.Stop()
	}
	return true
}

// refusalOf returns the refusal that a transport's read ended with, or nil
// when the connection simply ended.
func refusalOf(err error) *envelope.Error {
	if e, ok := errors.AsType[*envelope.Error](err); ok {
		return e
	}
	return nil
}
