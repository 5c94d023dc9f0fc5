package client

import (
	"context"
	"crypto/rand"
	"errors"
	"iter"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Client is one device. [Client.Receive] and [Client.Messages] are for one
// goroutine at a time; all other methods are safe for concurrent use.
type Client struct {
	*API // HTTP calls to the same servers with the same key

	// static after construction
	opts   Options
	ctx    context.Context // over when the client is to end at once
	cancel context.CancelFunc
	slots  chan struct{} // one element for each send that waits for its answer
	wake   chan struct{} // there may be something to write
	avail  chan struct{} // there may be something to receive
	room   chan struct{} // there may be room for what was read
	up     chan struct{} // closed with the first connection
	done   chan struct{} // closed when everything is over
	parser sync.Pool     // of *envelope.Parser, for what the user sends

	// only the run goroutine
	backoff backoff
	servers []string // Options.Servers, and what replies named
	prefer  []string // to be tried first, once

	// guarded by mu
	mu       sync.Mutex
	state    State
	err      error // why the client ended
	closing  bool  // the user has called Close
	out      outbox
	in       received
	marks    marks
	presence presences
	topics   topics
	epoch    string
	fromNow  bool    // as long as no connection has opened
	last     Message // given to the user and, without ManualAck, not handled yet
	resumeAt time.Time
}

// State is what a client is doing.
type State uint8

// The states of a client.
const (
	Connecting State = iota // there is no connection; sends wait
	Connected
	Closed // by the user, or by an error that coming back does not mend
)

// String returns the state's name.
func (s State) String() string {
	return [...]string{"connecting", "connected", "closed"}[s]
}

// Ack says what became of a message: its position, or the zero position when
// it was not to be stored. Offline then says that nobody was there for it, if
// the message asked with Receipt.
type Ack struct {
	ID      string
	Seq     uint64
	Log     envelope.Address
	Offline bool
}

// Receipt says that a message which asked for it has been delivered to a
// device, or read there, and with it all that this device has sent before it to
// that log. Receipts are hints: one may come twice, and one gets lost when this
// device is not connected. A position never moves back, so the highest counts.
type Receipt struct {
	ID     string
	Log    envelope.Address
	Seq    uint64
	Read   bool // else delivered
	Node   envelope.NodeID
	Client envelope.ClientID
}

// Message is a message received.
type Message struct {
	envelope.Envelope

	generation uint64 // of the position in its log
}

// Gap says that the entries of Log before Floor are gone, or that the store is
// a new one, in which old positions mean nothing. What follows starts at Floor.
type Gap struct {
	Log   envelope.Address
	Floor uint64
}

// New starts a client and returns at once; it connects in the background.
// An error means that the options are not complete.
func New(o Options) (*Client, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{
		API:     &API{Servers: o.Servers, AuthKey: o.NewAuthKey, HTTPClient: o.HTTPClient},
		opts:    o,
		slots:   make(chan struct{}, o.MaxInflight),
		wake:    make(chan struct{}, 1),
		avail:   make(chan struct{}, 1),
		room:    make(chan struct{}, 1),
		up:      make(chan struct{}),
		done:    make(chan struct{}),
		parser:  sync.Pool{New: func() any { return new(envelope.Parser) }},
		backoff: backoff{rand: mathrand.New(o.Rand)},
		servers: append([]string(nil), o.Servers...),
		out:     newOutbox(),
		in:      newReceived(o.Buffer, o.Cursors),
		epoch:   o.Epoch,
		fromNow: o.FromNow,

		marks:    newMarks(),
		presence: newPresences(),
		topics:   newTopics(),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	go c.run()
	return c, nil
}

// Dial starts a client and waits for its first connection. It tries until ctx
// is done; errors that trying again does not mend end it earlier. ctx is for
// dialling only.
func Dial(ctx context.Context, o Options) (*Client, error) {
	c, err := New(o)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.up:
		return c, nil
	case <-c.done:
		return nil, c.reason()
	case <-ctx.Done():
		c.cancel()
		<-c.done
		return nil, errors.Join(context.Cause(ctx), c.reason())
	}
}

// Send sends a message and waits for the server's answer; the error may be an
// [*envelope.Error] with the server's code. A durable message without an id
// gets a random one, so that it is stored once even if it has to be sent again.
// One that is not stored is never sent again over another connection (see
// [ErrUnknown]), and without an id Send does not wait for it at all.
//
// When ctx is done before the answer, the message may still be sent; sending
// it again with the same id and body is safe.
func (c *Client) Send(ctx context.Context, e envelope.Envelope) (Ack, error) {
	if e.ID == "" && e.Class != envelope.Durable {
		return Ack{}, c.SendAsync(ctx, e, nil)
	}
	type answer struct {
		ack Ack
		err error
	}
	answered := make(chan answer, 1)
	err := c.SendAsync(ctx, e, func(a Ack, err error) { answered <- answer{a, err} })
	if err != nil {
		return Ack{}, err
	}
	select {
	case a := <-answered:
		return a.ack, a.err
	case <-ctx.Done():
		return Ack{}, context.Cause(ctx)
	}
}

// SendAsync is [Client.Send] without waiting for the answer: done, which may
// be nil, is called once with it, from a goroutine of the client, and must not
// block. Messages given one after the other to one destination are numbered in
// that order. SendAsync waits while Options.MaxInflight messages are unanswered.
// With an error nothing is sent and done is not called.
func (c *Client) SendAsync(ctx context.Context, e envelope.Envelope, done func(Ack, error)) error {
	if e.ID == "" && e.Class == envelope.Durable {
		e.ID = rand.Text()
	}
	frame, err := c.encode(&e)
	if err != nil {
		return err
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.done:
		return c.reason()
	}
	err = c.submit(&pending{id: e.ID, dest: e.Dest(), class: e.Class, frame: frame, done: func(a Ack, err error) {
		<-c.slots
		if done != nil {
			done(a, err)
		}
	}})
	if err != nil {
		<-c.slots
		return err
	}
	signal(c.wake)
	signal(c.room) // the reader must not wait any more; see received.full
	return nil
}

// encode returns the frame for e, read as strictly as the server will read it:
// a frame that it refuses as a whole has no answer.
func (c *Client) encode(e *envelope.Envelope) ([]byte, error) {
	frame := e.AppendRequest(make([]byte, 0, 256+len(e.Body)))
	if len(frame) > c.opts.MaxFrame {
		return nil, envelope.Errorf(envelope.TooLarge, "a frame of %d bytes; at most %d", len(frame), c.opts.MaxFrame)
	}
	p := c.parser.Get().(*envelope.Parser)
	defer c.parser.Put(p)
	if _, err := p.Parse(frame); err != nil {
		return nil, err
	}
	return frame, nil
}

func (c *Client) submit(p *pending) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return c.err
	case c.closing:
		return ErrClosed
	case p.class != envelope.Durable && c.state != Connected:
		return ErrNotConnected
	case p.id != "" && c.out.byID[p.id] != nil:
		return ErrDuplicateID
	}
	c.out.add(p)
	return nil
}

// Receive returns the next message. Unless Options.ManualAck is set, asking for
// the next one says that the one before has been handled. After the end of the
// client the error is its reason, [ErrClosed] after Close.
func (c *Client) Receive(ctx context.Context) (Message, error) {
	c.mu.Lock()
	last := c.last
	c.last = Message{}
	c.mu.Unlock()
	c.Ack(last)
	for {
		c.mu.Lock()
		it, ok := c.in.pop()
		closing, err := c.closing, c.err
		if ok && !c.opts.ManualAck {
			c.last = it.msg
		}
		c.mu.Unlock()
		switch {
		case closing:
			return Message{}, ErrClosed
		case ok:
			signal(c.room)
		case err != nil:
			return Message{}, err
		default:
			select {
			case <-c.avail:
			case <-c.done:
			case <-ctx.Done():
				return Message{}, context.Cause(ctx)
			}
			continue
		}
		switch {
		case it.gap != nil:
			if c.opts.OnGap != nil {
				c.opts.OnGap(*it.gap)
			}
			if !c.opts.ManualAck {
				c.mu.Lock()
				wake := c.in.told(*it.gap, time.Now())
				c.mu.Unlock()
				if wake {
					signal(c.wake)
				}
			}
		case it.header != nil:
			if c.opts.OnHeader != nil {
				c.opts.OnHeader(*it.header)
			}
		case it.caughtUp != nil:
			if c.opts.OnCaughtUp != nil {
				c.opts.OnCaughtUp(it.caughtUp)
			}
		default:
			return it.msg, nil
		}
	}
}

// Messages returns the messages one by one until the client ends or ctx is
// done, which is the error then yielded, once. It is [Client.Receive] as a loop:
// the message at which the loop is left does not count as handled.
func (c *Client) Messages(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			m, err := c.Receive(ctx)
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// Ack says that m and everything before it in its log has been handled. The
// server is told within a second or 32 messages, or by Close.
func (c *Client) Ack(m Message) {
	c.mu.Lock()
	wake := c.in.handle(m, time.Now())
	c.mu.Unlock()
	if wake {
		signal(c.wake)
	}
}

// MarkRead says that the user has read a log up to and including seq. The
// server tells the user's other devices, and as a receipt those senders who
// asked for it. Marks only move forward, as far as the log goes. What has been
// read counts as handled at the server; here it is still to be acknowledged.
//
// The server is told within a moment, and again after a reconnect, as long as
// this client lives.
func (c *Client) MarkRead(log envelope.Address, seq uint64) {
	if _, err := envelope.ParseAddress(log.String()); err != nil || seq > maxSeq {
		return // the server would refuse the marks that go with it, too
	}
	c.mu.Lock()
	wake := c.marks.set(log, seq, time.Now())
	c.mu.Unlock()
	if wake {
		signal(c.wake)
	}
}

// maxSeq is the highest seq that a frame may name.
const maxSeq = 1 << 53

// Cursors returns up to which seq each log has been handled, for Options.Cursors
// of a later client.
func (c *Client) Cursors() map[envelope.Address]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in.cursors()
}

// Epoch names the store that the cursors belong to; "" before the first connection.
func (c *Client) Epoch() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// State returns what the client is doing.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Close acknowledges what has been handled and closes the connection; when ctx
// is done first, it breaks the connection off, returns the error of ctx, and
// the goroutines end within seconds. Messages not answered by then end with
// [ErrClosed]: wait for the answers first if they matter. Afterwards the client
// is of no use.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closing = true
	connected := c.state == Connected
	c.mu.Unlock()
	if !connected {
		c.cancel()
	}
	signal(c.wake)
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		c.cancel()
		return context.Cause(ctx)
	}
}

func (c *Client) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Client) tell(s State, why error) {
	if c.opts.OnState != nil {
		c.opts.OnState(s, why)
	}
}

// signal wakes the one goroutine that waits on ch, now or when it next does.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
