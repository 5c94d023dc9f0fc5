package node

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/inbox"
)

// stamp sets what only the server may say of a message.
func stamp(env *envelope.Envelope, who envelope.Principal) {
	env.SrcNode, env.SrcClient = who.Node, who.Client
	env.Timestamp = time.Now().UnixMilli()
	env.Seq = 0
}

// submitter is who waits for what becomes of a message.
type submitter interface {
	// leave is asked for once the address is known; an error refuses the message.
	leave(log envelope.Address) error
	// begin is asked for directly before the message is appended, which may be long
	// after leave; an error refuses it.
	begin(log envelope.Address) error
	// done is called once, possibly before send returns, from any goroutine, and
	// must not block. For a volatile message without a receipt send calls it.
	done(ack gateway.Ack, err error)
}

// answer is a submitter that gives every leave.
type answer func(gateway.Ack, error)

func (answer) leave(envelope.Address) error      { return nil }
func (answer) begin(envelope.Address) error      { return nil }
func (f answer) done(ack gateway.Ack, err error) { f(ack, err) }

// send takes one message from a sender to its log and on to its readers. env
// belongs to the node from here on.
func (n *Node) send(ctx context.Context, who envelope.Principal, env *envelope.Envelope, from submitter) {
	stamp(env, who)
	addr, err := n.resolve(ctx, who, env)
	n.dispatch(ctx, who, addr, err, env, from)
}

// dispatch is send for a message that is stamped and resolved; err says why it
// could not be.
func (n *Node) dispatch(ctx context.Context, who envelope.Principal, addr envelope.Address, err error, env *envelope.Envelope, from submitter) {
	if err == nil && env.Revises() != 0 {
		err = n.mayRevise(ctx, who, addr, env)
	}
	if err == nil {
		err = from.leave(addr)
	}
	if err != nil {
		from.done(gateway.Ack{}, err)
		return
	}
	if err := n.limits.maySendTo(who, env.DestSession); err != nil {
		from.done(gateway.Ack{}, err)
		return
	}
	if env.Class != envelope.Durable {
		if err := n.maySignal(ctx, who, env.DestSession); err != nil {
			from.done(gateway.Ack{}, err)
			return
		}
		n.stats.Volatile.Add(1)
		if addr.IsZero() { // a game without a master
			n.stats.DroppedAway.Add(1)
			from.done(gateway.Ack{ID: env.ID, Offline: env.Receipt}, nil)
			return
		}
		if env.Receipt && env.ID != "" && !n.cfg.PresenceOff {
			n.publishAsked(addr, env, from.done)
			return
		}
		n.publish(addr, env)
		from.done(gateway.Ack{ID: env.ID}, nil)
		return
	}
	id := env.ID
	n.waker.before(ctx, addr, env)
	if err := from.begin(addr); err != nil {
		from.done(gateway.Ack{}, err)
		return
	}
	n.owners.append(addr, env, func(seq uint64, err error) {
		if err != nil {
			from.done(gateway.Ack{}, err)
			return
		}
		n.waker.appended(addr, env, seq)
		ack := gateway.Ack{ID: id, Seq: seq, Log: addr}
		if n.hooks == nil {
			from.done(ack, nil)
			return
		}
		n.hooks.waiting(addr, env, seq, func() { from.done(ack, nil) })
	})
}

// appendNotice appends an entry of the server's own to a session's log.
func (n *Node) appendNotice(ctx context.Context, log envelope.Address, env *envelope.Envelope) (uint64, error) {
	n.waker.before(ctx, log, env)
	seq, err := inbox.Wait(ctx, func(done func(uint64, error)) {
		n.owners.append(log, env, func(seq uint64, err error) {
			if err == nil {
				n.waker.appended(log, env, seq)
			}
			done(seq, err)
		})
	})
	if err != nil {
		return 0, err
	}
	n.hooks.waiting(log, env, seq, func() {}) // an invitation
	return seq, n.hooks.noticed(ctx, log, env, seq)
}

// sending is what a connection knows of its messages that wait for the store or
// for readers; guarded by the connection's mu.
type sending struct {
	inflight  places // of those that wait
	gates     gates
	passage   passage
	submitted uint64 // numbers them
}

// submission is a message from a connection on its way.
type submission struct {
	c      *conn
	env    *envelope.Envelope
	id     string
	waits  bool   // for the store or for readers, and has a place among those that do
	number uint64 // of those on its connection, when it came first
	denied error  // what the app's backend says

	// Of the message as it was sent, to be told with a refusal.
	log     envelope.Address
	node    envelope.NodeID
	session envelope.SessionID
	durable bool
}

// send takes a message from this connection. It holds back the read loop while
// too many of its messages wait for the store.
func (c *conn) send(env *envelope.Envelope) {
	waits := env.Class == envelope.Durable || env.Receipt
	var number uint64
	if waits {
		c.mu.Lock()
		if c.sending == nil {
			c.sending = new(sending)
		}
		if !c.inflight.take(&c.ctx, &c.mu, maxInflight) {
			c.mu.Unlock()
			return
		}
		c.submitted++
		number = c.submitted
		c.mu.Unlock()
	}
	s := c.n.submissions.Get().(*submission)
	*s = submission{
		c: c, env: env, id: env.ID, waits: waits, number: number, durable: env.Class == envelope.Durable,
		log:  env.Dest(), // also when it is refused before that is known to be right
		node: env.DestNode, session: env.DestSession,
		denied: c.ask(ofMessage(env)), // which may take a while: what was refused meanwhile comes before it
	}
	c.n.send(&c.ctx, c.who, env, s)
	if waits {
		c.passage.end(&c.mu)
		return
	}
	s.forget()
}

// leave implements [submitter].
func (s *submission) leave(addr envelope.Address) error {
	c := s.c
	s.durable = s.env.Class == envelope.Durable // a topic may keep nothing
	if s.durable && s.id != "" {
		c.mu.Lock()
		var err error
		s.number, err = c.gates.pass(addr, s.id, s.number, time.Now())
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if s.denied != nil { // behind the gate: who comes again keeps its turn
		return s.denied
	}
	return c.mayFrame()
}

// begin implements [submitter]. From here to the end of the append refusals wait to be
// noted, and it may be the store's committer that has them wait: nothing may be waited
// for in between, least of all the store. What was refused since leave is seen here.
func (s *submission) begin(addr envelope.Address) error {
	if s.id == "" {
		return nil
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gates.holds(addr, s.number) {
		return errEarlierRefused
	}
	c.passage.begin(s.number)
	return nil
}

// forget gives the memory back: nobody has s any more.
func (s *submission) forget() {
	n := s.c.n
	*s = submission{}
	n.submissions.Put(s)
}

// done implements [submitter].
func (s *submission) done(ack gateway.Ack, err error) {
	c := s.c
	if s.waits {
		defer s.forget()
		c.mu.Lock()
		c.inflight.leave()
		c.mu.Unlock()
	}
	if err == nil {
		if s.id != "" {
			c.acknowledged(ack)
		}
		c.answerAway(s.env)
		return
	}
	room := true
	if e := envelope.AsError(err); s.durable && s.id != "" && e.Code.Retry() {
		c.mu.Lock()
		c.passage.wait(&c.mu, s.number)
		room = c.gates.shut(s.log, s.id, s.number, time.Now())
		c.mu.Unlock()
	}
	switch {
	case s.id == "" && !s.durable && envelope.CodeOf(err) == envelope.RateLimited:
		c.n.stats.DroppedRate.Add(1) // a word for each would be more of the same
	case !c.answerNotMember(s.id, s.node, s.session, err):
		c.refuse(s.id, err)
	}
	if !room { // behind the refusal; a client that connects again sends everything anew, in order
		c.close(envelope.Busy, "too many messages were refused")
	}
}
