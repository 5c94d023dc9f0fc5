package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	// controlRoom is what a frame may be larger than the largest message:
	// the fields that the server adds, or the heads of many logs.
	controlRoom = 4 << 20
	// lastWords is how long the reader goes on after a write has failed: the
	// server may have sent answers and a close code before.
	lastWords = 5 * time.Second
	// extraPatience is added to two of the server's ping intervals; without any
	// sign of life for so long the connection is given up.
	extraPatience = 10 * time.Second
)

// link is one open connection.
type link struct {
	// static after construction
	c       *Client
	ws      *websocket.Conn
	ctx     context.Context // over when the connection is to be given up
	cancel  context.CancelCauseFunc
	leaving chan struct{} // closed when the writer says goodbye

	beside  sync.WaitGroup // asks the user for auth keys
	renewal renewal        // guarded by mu of the client

	// only the reader
	parser   envelope.Parser
	buf      bytes.Buffer
	patience time.Duration // zero: the server does not ping
	watchdog *time.Timer   // ends the connection when it runs out
}

var (
	errLeft   = errors.New("client: left")
	errSilent = errors.New("client: no sign of life from the server")
)

func newLink(c *Client) *link {
	l := &link{c: c, leaving: make(chan struct{}), parser: envelope.Parser{From: envelope.FromServer}}
	l.ctx, l.cancel = context.WithCancelCause(c.ctx)
	return l
}

// hello says where to resume and reads the server's answer.
func (l *link) hello(ctx context.Context) error {
	c := l.c
	l.ws.SetReadLimit(int64(c.opts.MaxFrame) + controlRoom)
	c.mu.Lock()
	resume := !c.fromNow
	hello := envelope.Control{Control: envelope.ControlHello, Epoch: c.epoch, Resume: &resume}
	if resume {
		hello.Cursors = envelope.ByText(c.in.cursors())
	}
	c.mu.Unlock()
	if err := l.ws.Write(ctx, websocket.MessageText, hello.AppendJSON(nil)); err != nil {
		return err
	}
	_, frame, err := l.ws.Read(ctx)
	if err != nil {
		return err
	}
	answer, err := parseControl(frame)
	if err != nil {
		return err
	}
	if answer.Control == envelope.ControlError {
		refused := &envelope.Error{Code: answer.Code, Detail: answer.Detail, RetryMS: answer.RetryMS}
		if !refused.Code.Retry() {
			return final{refused}
		}
		return refused
	}
	if answer.Control != envelope.ControlHello {
		return fmt.Errorf("client: the server opened with %q", answer.Control)
	}
	heads, err := answer.HeadMap()
	if err != nil {
		return err
	}
	if answer.PingS > 0 {
		l.patience = 2*time.Duration(answer.PingS)*time.Second + extraPatience
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch != "" && answer.Epoch != c.epoch {
		c.in.forget()
		c.marks.forget()
	}
	c.epoch = answer.Epoch
	if c.fromNow {
		c.fromNow = false
		c.in.startAt(heads)
	}
	c.in.connected(time.Now())
	c.marks.connected(time.Now())
	c.presence.connected()
	c.topics.connected()
	return nil
}

// serve runs the connection and returns why it ended. Its goroutines have
// ended then.
func (l *link) serve() error {
	c := l.c
	stop := context.AfterFunc(l.ctx, func() { _ = l.ws.CloseNow() })
	defer stop()
	if l.patience > 0 {
		l.watchdog = time.AfterFunc(l.patience, func() { l.cancel(errSilent) })
	}
	c.mu.Lock()
	c.state = Connected
	c.mu.Unlock()
	select {
	case <-c.up:
	default:
		close(c.up)
	}
	c.tell(Connected, nil)

	var writer sync.WaitGroup
	writer.Go(l.writeLoop)
	err := l.readLoop()
	select {
	case <-l.leaving: // the writer closes the connection, in good order
		writer.Wait()
	default:
	}
	if cause := context.Cause(l.ctx); cause != nil {
		err = cause
	}
	l.cancel(err)
	writer.Wait()
	l.beside.Wait()
	_ = l.ws.CloseNow()
	if l.watchdog != nil {
		l.watchdog.Stop()
	}

	c.mu.Lock()
	c.state = Connecting
	lost := c.out.disconnected()
	c.mu.Unlock()
	for _, p := range lost {
		if p.sent {
			p.done(Ack{}, ErrUnknown)
		} else {
			p.done(Ack{}, ErrNotConnected)
		}
	}
	err = reading(err)
	c.tell(Connecting, err)
	return err
}

// writeLoop writes what is to be written until the connection is over.
func (l *link) writeLoop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		job := l.nextWrite(time.Now())
		if job.frame != nil {
			// Slowness is the server's to judge, and that of the watchdog.
			err := l.ws.Write(context.Background(), websocket.MessageText, job.frame)
			if job.sent != nil && job.sent.lane == nil { // nobody answers that one
				job.sent.done(Ack{}, written(err))
			}
			if err != nil {
				l.writeFailed(err)
				return
			}
			continue
		}
		if job.leave {
			close(l.leaving)
			_ = l.ws.Close(websocket.StatusNormalClosure, "")
			return
		}
		if !job.next.IsZero() {
			timer.Reset(time.Until(job.next))
		}
		select {
		case <-l.c.wake:
		case <-timer.C:
		case <-l.ctx.Done():
			return
		}
	}
}

func written(err error) error {
	if err != nil {
		return ErrUnknown
	}
	return nil
}

// job is what the writer does next: write a frame, leave, or wait until next.
type job struct {
	frame []byte
	sent  *pending // the message that the frame carries; nil: a control frame
	leave bool
	next  time.Time // zero: until woken
}

func (l *link) nextWrite(now time.Time) job {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if frame := l.takeRenewal(); frame != nil {
		return job{frame: frame}
	}
	leave := c.closing || !c.resumeAt.IsZero() && !now.Before(c.resumeAt)
	frame, ackDue := c.in.ack(now, leave)
	if frame != nil {
		return job{frame: frame}
	}
	frame, markDue := c.marks.frame(now, leave)
	if frame != nil {
		return job{frame: frame}
	}
	if leave {
		return job{leave: true}
	}
	frame, askDue := c.presence.next(now)
	if frame != nil {
		return job{frame: frame}
	}
	frame, topicsDue := c.topics.next(now, &c.in, c.epoch)
	if frame != nil {
		return job{frame: frame}
	}
	released := c.out.release(now)
	if p := c.out.next(); p != nil {
		return job{frame: p.frame, sent: p}
	}
	return job{next: earliest(ackDue, markDue, askDue, topicsDue, released, c.resumeAt)}
}

// earliest returns the first of the times that are not zero.
func earliest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// writeFailed leaves the reader the time to hear the server's last words.
func (l *link) writeFailed(err error) {
	select {
	case <-time.After(lastWords):
		l.cancel(fmt.Errorf("client: writing: %w", err))
	case <-l.ctx.Done():
	}
}

// readLoop reads frames until the connection is over and returns why it is.
func (l *link) readLoop() error {
	for {
		_, r, err := l.ws.Reader(context.Background())
		if err != nil {
			return err
		}
		l.buf.Reset()
		if _, err := l.buf.ReadFrom(r); err != nil {
			return err
		}
		l.alive()
		e, err := l.parser.Parse(l.buf.Bytes())
		switch {
		case err == nil:
			err = l.offer(e)
		case errors.Is(err, envelope.ErrControl):
			l.control(l.buf.Bytes())
			err = nil
		default:
			// Going on would acknowledge what nobody has seen.
			err = final{fmt.Errorf("client: a frame that is no message: %w", err)}
		}
		if err != nil {
			return err
		}
	}
}

// offer queues a message for the user; it waits while the queue is full.
func (l *link) offer(e envelope.Envelope) error {
	c := l.c
	for {
		c.mu.Lock()
		if !c.in.full(len(c.out.byID)+len(c.topics.calls) > 0) {
			c.in.push(e)
			c.mu.Unlock()
			signal(c.avail)
			return nil
		}
		c.mu.Unlock()
		// The silence is this side's own.
		if l.watchdog != nil {
			l.watchdog.Stop()
		}
		select {
		case <-c.room:
			l.alive()
		case <-l.leaving:
			return errLeft
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		}
	}
}

func (l *link) control(frame []byte) {
	c := l.c
	f, err := parseControl(frame)
	if err != nil {
		c.opts.Logger.Warn("control frame not understood", "error", err)
		return
	}
	switch f.Control {
	case envelope.ControlAck:
		l.answered(f)
	case envelope.ControlExpiring:
		l.renew(time.UnixMilli(f.At))
	case envelope.ControlRefreshed:
		l.renewed(f.ID)
	case envelope.ControlNack:
		if l.renewed(f.ID) {
			c.opts.Logger.Warn("fresh auth key refused", "code", f.Code, "detail", f.Detail)
			return
		}
		c.mu.Lock()
		topics := c.topics.refused(f.ID, &envelope.Error{Code: f.Code, Detail: f.Detail, RetryMS: f.RetryMS}, time.Now())
		c.mu.Unlock()
		if topics {
			signal(c.wake)
		} else if f.Code.Retry() {
			l.refused(f)
		} else {
			l.answered(f)
		}
	case envelope.ControlGap:
		log, err := envelope.ParseAddress(f.Log)
		if err != nil {
			c.opts.Logger.Warn("gap without a log", "error", err)
			return
		}
		c.mu.Lock()
		c.in.gap(log, f.Floor)
		c.marks.restart(log, f.Floor)
		c.mu.Unlock()
		signal(c.avail)
	case envelope.ControlHeader:
		h, err := headerOf(f)
		if err != nil {
			c.opts.Logger.Warn("header without a log", "error", err)
			return
		}
		c.mu.Lock()
		c.in.header(h)
		c.mu.Unlock()
		signal(c.avail)
	case envelope.ControlSubscribed:
		begin, err := f.CursorMap()
		if err != nil {
			c.opts.Logger.Warn("positions of topics not understood", "error", err)
			return
		}
		c.mu.Lock()
		c.in.startAt(begin)
		c.topics.followed(f.ID)
		c.mu.Unlock()
	case envelope.ControlCaughtUp:
		heads, err := f.HeadMap()
		if err != nil {
			c.opts.Logger.Warn("heads not understood", "error", err)
			return
		}
		c.mu.Lock()
		c.in.notice(item{caughtUp: heads})
		c.mu.Unlock()
		signal(c.avail)
	case envelope.ControlReconnect:
		c.prefer = f.Nodes // serve is called by the run goroutine, and this by serve
		c.mu.Lock()
		c.resumeAt = time.Now().Add(time.Duration(f.AfterMS) * time.Millisecond)
		c.mu.Unlock()
		signal(c.wake)
	case envelope.ControlReceipt:
		l.receipt(f)
	case envelope.ControlRead:
		cursors, err := f.CursorMap()
		if err != nil {
			c.opts.Logger.Warn("read marks not understood", "error", err)
			return
		}
		c.mu.Lock()
		news := c.marks.heard(cursors)
		c.mu.Unlock()
		if len(news) > 0 && c.opts.OnRead != nil {
			c.opts.OnRead(news)
		}
	case envelope.ControlPresence:
		c.mu.Lock()
		c.presence.heard(f.Presence)
		c.mu.Unlock()
		if len(f.Presence) > 0 && c.opts.OnPresence != nil {
			c.opts.OnPresence(f.Presence)
		}
	case envelope.ControlError:
		c.mu.Lock()
		asked := c.presence.refused(&envelope.Error{Code: f.Code, Detail: f.Detail, RetryMS: f.RetryMS}, time.Now())
		c.mu.Unlock()
		if asked {
			signal(c.wake) // the writer is to wait for the time named
		}
		c.opts.Logger.Warn("frame refused", "code", f.Code, "detail", f.Detail)
	}
}

// parseControl reads a frame of a server, which may be newer than this client:
// members that it does not know mean nothing to it.
func parseControl(frame []byte) (f envelope.Control, err error) {
	return f, json.Unmarshal(frame, &f)
}

// receipt tells the user of one.
func (l *link) receipt(f envelope.Control) {
	log, err := envelope.ParseAddress(f.Log)
	known := f.State == envelope.StateDelivered || f.State == envelope.StateRead
	if err != nil || !known || l.c.opts.OnReceipt == nil {
		return
	}
	l.c.opts.OnReceipt(Receipt{
		ID: f.ID, Log: log, Seq: f.Seq, Read: f.State == envelope.StateRead,
		Node: envelope.NodeID(f.NodeID), Client: envelope.ClientID(f.Client),
	})
}

// answered ends a send: taken, or refused for good.
func (l *link) answered(f envelope.Control) {
	c := l.c
	c.mu.Lock()
	p := c.out.answered(f.ID)
	c.mu.Unlock()
	if p == nil {
		return
	}
	signal(c.wake) // its lane may have waited for this answer
	if f.Control == envelope.ControlNack {
		p.done(Ack{}, &envelope.Error{Code: f.Code, Detail: f.Detail, RetryMS: f.RetryMS})
		return
	}
	a := Ack{ID: f.ID, Seq: f.Seq, Offline: f.Offline}
	if f.Log != "" {
		a.Log, _ = envelope.ParseAddress(f.Log) // of use to people only
	}
	p.done(a, nil)
}

func (l *link) refused(f envelope.Control) {
	wait := time.Duration(f.RetryMS) * time.Millisecond
	if wait <= 0 {
		wait = defaultRetry
	}
	l.c.mu.Lock()
	l.c.out.refused(f.ID, time.Now().Add(wait))
	l.c.mu.Unlock()
	signal(l.c.wake)
}

// pinged is called by the reader, below Reader.
func (l *link) pinged(context.Context, []byte) bool {
	l.alive()
	return true
}

func (l *link) alive() {
	if l.watchdog != nil {
		l.watchdog.Reset(l.patience)
	}
}
