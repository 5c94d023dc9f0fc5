package node

import (
	"context"
	"crypto/rand"
	"errors"
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
	// message that finds the window full is read from its log later.
	windowMessages = 256
	windowBytes    = 1 << 20
	// maxInflight bounds the messages of one sender that wait for the store.
	maxInflight = 1024
	// maxReplies bounds the frames waiting before the server stops reading from
	// a client that does not read.
	maxReplies = 1024
)

// conn is one connection of a device. [Node.Serve] owns its goroutines: the
// read loop, a write loop while there is something to write, and short ones
// that open it, follow sessions, ping, confirm deliveries or wait for it to leave.
type conn struct {
	// Static after construction.
	n         *Node
	id        string
	began     time.Time
	who       envelope.Principal
	address   netip.Addr // by which it is bound; zero when it is not
	t         gateway.Transport
	waiter    gateway.Waiter // t, if it needs no goroutine to wait; else nil
	codec     gateway.Codec
	options   gateway.Options
	ctx       context.Context // its cause says why the connection is over
	cancel    context.CancelCauseFunc
	inflight  chan struct{} // a token for each message that waits for the store
	drained   chan struct{} // a token when the write loop has taken the queue
	follower  chan struct{} // held by whoever changes what is followed
	ofClient  share         // what it may still send, of its user
	ofAddress share         // and of the address; see credential, too
	wg        sync.WaitGroup
	stop      []func() bool // what is to be stopped in the end
	stall     *time.Timer   // runs while a frame is being written
	opening   atomic.Bool   // delivery has begun, or is about to
	acked     atomic.Bool   // something was acknowledged
	stale     atomic.Bool   // somebody is about to look for sessions that it has joined
	blocked   atomic.Bool   // a frame is being written
	heard     atomic.Uint64 // frames read
	reading   atomic.Bool   // the read loop waits for a frame, and so hears pongs
	revoked   atomic.Bool   // the credential was: nothing is heard any more

	credential atomic.Pointer[credential] // changed under mu
	refreshing atomic.Bool                // another one is being checked
	expiry     expiry

	watched map[envelope.ClientID]struct{} // only the read loop; users whose presence it follows

	topicsPaid time.Time // only who holds follower; see payTopics

	mu        sync.Mutex
	follows   map[envelope.Address]*follow // guarded by mu
	lane      lane                         // guarded by mu
	gates     gates                        // guarded by mu
	passage   passage                      // guarded by mu
	parting   bool                         // guarded by mu; the goodbye comes next
	submitted uint64                       // guarded by mu; numbers the messages sent
	writing   bool                         // guarded by mu; a write loop runs
	flushing  bool                         // guarded by mu; it is writing frames
	lagging   bool                         // guarded by mu; some of follows may be behind
	owesMarks bool                         // guarded by mu; some of follows' read marks have not been told
	replaying bool                         // guarded by mu; caught_up has yet to be sent
	joining   bool                         // guarded by mu; hello's topics have yet to be followed
	ownAcks   bool                         // guarded by mu; the client acknowledges for itself
	confirm   confirmation                 // guarded by mu
	away      awayAnswers                  // guarded by mu
	receipts  receipts                     // guarded by mu; those to be told
	goodbye   *envelope.Error              // guarded by mu; close with it when the lane is empty
	over      bool                         // guarded by mu; no goroutine may start any more
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
		n: n, id: rand.Text(), began: time.Now(), who: who, address: limitedAddress(ctx), t: t, codec: codec, options: o,
		inflight: make(chan struct{}, maxInflight),
		drained:  make(chan struct{}, 1),
		follower: make(chan struct{}, 1),
		follows:  make(map[envelope.Address]*follow, 2),
	}
	c.who.Rights = nil // those of the credential count, see caller
	c.credential.Store(c.credentialOf(gateway.Verified{
		Who: who, Expires: o.Expires, Credential: gateway.Credential{JTI: o.JTI, Issued: o.Issued},
	}))
	c.waiter, _ = t.(gateway.Waiter)
	c.limit()
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	c.stop = append(c.stop, context.AfterFunc(c.ctx, t.Abort))

	old, err := n.enter(c)
	if err != nil {
		e := envelope.AsError(err)
		t.Close(e.Code, e.Detail)
		c.release()
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
	c.timers()
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

// release is the end of what Serve has begun.
func (c *conn) release() {
	for _, stop := range c.stop {
		stop()
	}
	c.n.serving.Done()
}

// timers starts what watches over a connection.
func (c *conn) timers() {
	c.stall = time.AfterFunc(time.Hour, func() {
		c.n.stats.ClosedSlow.Add(1)
		c.t.Close(envelope.SlowReader, "no progress while writing")
		c.cancel(envelope.Errorf(envelope.SlowReader, "no progress while writing"))
	})
	c.stall.Stop()
	timers := append(c.expires(), c.stall, c.pinger())
	if c.options.Hello {
		timers = append(timers, time.AfterFunc(c.n.timing.Hello, func() { c.spawn(func() { c.open(nil) }) }))
	}
	for _, timer := range timers {
		c.stop = append(c.stop, timer.Stop)
	}
}

// pinger keeps the connection alive and ends it when the client does not answer.
func (c *conn) pinger() *time.Timer {
	var timer *time.Timer
	var mu sync.Mutex // timer is assigned before its function reads it
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(c.n.timing.Ping, func() {
		c.spawn(func() {
			heard := c.heard.Load()
			if err := c.ping(); err != nil && !errors.Is(err, errWriting) && c.silent(heard) {
				c.cancel(envelope.Errorf(envelope.SlowReader, "a ping was not answered"))
				return
			}
			mu.Lock()
			defer mu.Unlock()
			timer.Reset(c.n.timing.Ping)
		})
	})
	return timer
}

// errWriting is for a ping that would have had to wait for a frame.
var errWriting = errors.New("a frame is being written")

// ping returns nil when the client has answered. It does not stand in line
// behind a frame that is being written: the stall timer judges that, and the
// library ends a connection on which a ping cannot be written for some seconds.
func (c *conn) ping() error {
	if c.blocked.Load() {
		return errWriting
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.n.timing.Pong)
	defer cancel()
	return c.t.Ping(ctx)
}

// silent reports whether a ping that was not answered shows that the client is
// gone. Not so while a frame is being written, nor while the read loop is held
// back and no pong can arrive; and a frame from the client shows as much as a
// pong.
func (c *conn) silent(heard uint64) bool {
	return !c.blocked.Load() && c.reading.Load() && c.heard.Load() == heard
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
	c.cancel(err)
	c.n.stats.Disconnected.Add(1)
	c.follower <- struct{}{} // for good: a sweep may be at it, and none may begin
	c.n.watchers.end(c)
	c.n.sights.note(c.who)
	c.n.hooks.disconnected(c)
	c.n.waker.parts(c)
	c.unfollowAll()
	c.n.conns.remove(c)
	c.saveAcks()
	c.release()
	c.n.log.Debug("disconnected", "conn", c.id, "node", c.who.Node, "cause", context.Cause(c.ctx))
}

// saveWithin bounds the wait for the cursors of a connection that has ended.
const saveWithin = 2 * time.Second

// saveAcks writes what the client acknowledged last, so that its next
// connection, wherever it is, goes on from there.
func (c *conn) saveAcks() {
	if !c.acked.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), saveWithin)
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
