package node

import (
	"context"
	"crypto/rand"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/hook/ask"
)

// What one connection may hold in memory.
const (
	// windowMessages and windowBytes bound what waits to be written. A durable
	// message that finds the window full is read from its log later. The last that
	// finds room may be large; see also lane.replace.
	windowMessages = 256
	windowBytes    = 1 << 20
	// maxInflight bounds the messages of one sender that wait for the store.
	maxInflight = 1024
	// maxReplies and maxReplyBytes bound the frames waiting before the server stops
	// reading from a client that does not read. Messages alone, of the usual size, are
	// at most half of them: who is only slow to read those may go on sending.
	maxReplies    = 4 * windowMessages
	maxReplyBytes = 4 * windowBytes
)

// conn is one connection of a device. Its goroutines are the read loop and, while
// there is something to write, a write loop, neither of them where a [gateway.Waiter]
// and the flusher do without; and short ones that open it, follow sessions, confirm
// deliveries or wait for it to leave. All have ended when it has.
// It is as small as it can be: there may be tens of thousands that do nothing.
type conn struct {
	// Static after construction.
	n       *Node
	id      string
	began   time.Duration // since the node did
	who     envelope.Principal
	address netip.Addr // of the client; zero when it is not known
	t       gateway.Transport
	waiter  gateway.Waiter // t, if it needs no goroutine to wait; else nil
	codec   gateway.Codec
	answers bool           // a sender is told what became of its own: see gateway.Options
	verify  gateway.Verify // see gateway.Options
	ctx     lifeline       // its cause says why the connection is over
	wg      sync.WaitGroup
	stall   *time.Timer   // only who writes; runs while a frame is being written. nil: none has had to wait
	opening atomic.Bool   // delivery has begun, or is about to
	acked   atomic.Bool   // something was acknowledged
	blocked atomic.Bool   // a frame is being written
	heard   atomic.Uint64 // frames read
	reading atomic.Bool   // the read loop waits for a frame, and so hears pongs
	revoked atomic.Bool   // the credential was: nothing is heard any more

	credential atomic.Pointer[credential] // changed under mu
	refreshing atomic.Bool                // another one is being checked

	alarm int32 // guarded by alarms.mu; place in alarms.line, counted from 1; 0: it is not there; -1: and will not be again
	pulse pulse // only the goroutine of alarms

	watched *watched // only the read loop; users whose presence it follows; nil: none ever
	shares  *shares  // only the read loop; what it may still ask for, once it has asked

	topicsPaid time.Duration // since the node began; only who has the turn to follow; see payTopics

	mu        sync.Mutex
	due       due             // guarded by mu
	following places          // guarded by mu; of who changes what is followed, one at a time
	*sending                  // guarded by mu; nil: no message has had to wait
	drained   chan struct{}   // guarded by mu; closed when the write loop takes the queue; nil: nobody waits
	follows   followed        // guarded by mu
	lane      lane            // guarded by mu
	goodbye   *envelope.Error // guarded by mu; close with it when the lane is empty
	parting   bool            // guarded by mu; it comes next
	over      bool            // guarded by mu; no goroutine may start any more
	writing   bool            // guarded by mu; a write loop runs, or the flusher is about to write
	flushing  bool            // guarded by mu; it is writing frames
	lagging   bool            // guarded by mu; some of follows may be behind
	owesMarks bool            // guarded by mu; some of follows' read marks have not been told
	unlooked  *unlooked       // guarded by mu; somebody is about to look for what it has joined; nil: nobody
	replaying bool            // guarded by mu; caught_up has yet to be sent
	joining   bool            // guarded by mu; hello's topics have yet to be followed
	ownAcks   bool            // guarded by mu; the client acknowledges for itself
	confirm   confirmation    // guarded by mu
	away      *awayAnswers    // guarded by mu; nil: never any
	receipts  *receipts       // guarded by mu; those to be told; nil: none yet
}

// Serve implements [gateway.Core].
func (n *Node) Serve(ctx context.Context, who envelope.Principal, t gateway.Transport, codec gateway.Codec, o gateway.Options) {
	n.life.Lock()
	if n.life.closed {
		n.life.Unlock()
		t.Close(envelope.GoingAway, "this server is shutting down")
		return
	}
	n.serving.Add(1)
	n.life.Unlock()

	c := &conn{
		n: n, id: rand.Text(), began: n.alarms.now(), who: who, address: o.Address, t: t, codec: codec,
		answers: o.Answers, verify: o.Verify,
		lane: lane{free: &n.laneMemory},
	}
	c.who.Rights = nil // those of the credential count, see caller
	c.credential.Store(credentialOf(gateway.Verified{
		Who: who, Expires: o.Expires, Credential: gateway.Credential{JTI: o.JTI, Issued: o.Issued},
	}))
	c.waiter, _ = t.(gateway.Waiter)
	c.ctx.Context = ctx
	n.lines.tie(ctx, c)

	old, err := n.enter(c)
	if err != nil {
		e := envelope.AsError(err)
		t.Close(e.Code, e.Detail)
		c.cancel(e)
		n.serving.Done()
		return
	}
	if old != nil {
		n.replace(old)
	}
	n.tellConnected(c)
	n.revoker.check(c)     // again, after add: what was revoked meanwhile
	if n.draining.Load() { // after add: whom Drain did not see sees it here
		c.close(envelope.GoingAway, "the server is shutting down; connect to another")
	}
	n.stats.Connected.Add(1)
	n.sights.note(who)
	n.hooks.connected(c)
	n.log.Debug("connected", "conn", c.id, "node", who.Node)
	c.setAlarms(o.Hello)
	if !o.Hello {
		c.open(nil)
	}
	if c.waiter != nil {
		c.waiter.Watch(c.readable)
		c.readable(false)
		return
	}
	err = c.readLoop()
	c.end(err)
}

// enter makes the connection one of the server's. It returns the one of the
// same device that it replaces, or nil.
func (n *Node) enter(c *conn) (old *conn, err error) {
	if err := c.ask(ask.Question{Action: ask.Connect}); err != nil { // before it takes the place of another
		n.stats.refused(envelope.CodeOf(err))
		return nil, err
	}
	if err := n.revoker.holds(c); err != nil { // a validation token may be older than the revocation
		n.stats.ClosedRevoked.Add(1)
		return nil, envelope.Errorf(envelope.Revoked, "%s", envelope.AsError(err).Detail)
	}
	if old, err = n.conns.add(c); envelope.CodeOf(err) == envelope.Busy { // others came between Admit and here
		n.stats.RefusedFull.Add(1)
	}
	return old, err
}

// cancel ends the connection at once, for a reason.
func (c *conn) cancel(why error) {
	if c.ctx.cut(why) {
		c.n.lines.untie(c.ctx.Context, c)
		c.t.Abort()
	}
}

// stalls starts the time that a write may make no progress, which c.stall ends.
func (c *conn) stalls() {
	if c.stall != nil {
		c.stall.Reset(c.n.timing.Stall)
		return
	}
	c.stall = time.AfterFunc(c.n.timing.Stall, func() {
		c.n.stats.ClosedSlow.Add(1)
		c.t.Close(envelope.SlowReader, "no progress while writing")
		c.cancel(envelope.Errorf(envelope.SlowReader, "no progress while writing"))
	})
}

// refuse tells the client that a frame was refused; id names the message, if
// it was one.
func (c *conn) refuse(id string, err error) {
	e := envelope.AsError(err)
	c.n.stats.refused(e.Code)
	if e.Code == envelope.Internal {
		c.n.log.Error("internal error", "conn", c.id, "err", err)
	}
	c.reply(gateway.Refusal{ID: id, Err: e})
}

// close ends the connection with a code once what waits has been written.
func (c *conn) close(code envelope.Code, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.part(code, reason)
}

// part is close under mu.
func (c *conn) part(code envelope.Code, reason string) {
	if c.goodbye == nil {
		c.goodbye = envelope.Errorf(code, "%s", reason)
		c.wake()
	}
}

// end is the last act: it says goodbye if the reason for the end allows, waits
// for the connection's goroutines and gives back what it held.
func (c *conn) end(err error) {
	if refusal := refusalOf(err); refusal != nil {
		c.refuse("", refusal)
		c.close(refusal.Code, refusal.Detail)
	}
	c.mu.Lock()
	c.over = true
	goodbye := c.goodbye != nil
	c.mu.Unlock()
	if !goodbye {
		c.cancel(err)
	}
	c.wg.Wait()
	if c.stall != nil {
		c.stall.Stop()
	}
	c.cancel(err)
	c.n.stats.Disconnected.Add(1)
	c.beginFollowing(context.Background()) // for good: a sweep may be at it, and none may begin
	c.n.watchers.end(c)
	c.n.sights.note(c.who)
	c.n.hooks.disconnected(c)
	c.n.waker.parts(c)
	c.unfollowAll()
	c.n.conns.remove(c)
	c.saveAcks()
	c.n.alarms.remove(c)
	defer c.n.serving.Done()
	c.n.log.Debug("disconnected", "conn", c.id, "node", c.who.Node, "cause", c.ctx.cause())
}

// saveWithin bounds the wait for the cursors of a connection that has ended.
const saveWithin = 2 * time.Second

// saveAcks writes what the client acknowledged last, so that its next
// connection, wherever it is, goes on from there.
func (c *conn) saveAcks() {
	if !c.acked.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(&c.ctx), saveWithin)
	defer cancel()
	if err := c.n.inbox.Flush(ctx); err != nil {
		c.n.log.Debug("cursors not saved yet", "conn", c.id, "err", err)
	}
}

// spawn runs f in a goroutine of the connection, unless it is over.
func (c *conn) spawn(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.wg.Go(f)
	}
}
