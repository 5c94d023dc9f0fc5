package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// walker is a device on plain connections: it notes every frame, sends one
// message after the other, each until it is answered, by whatever way is open,
// and acknowledges when it pleases.
type walker struct {
	w     *world
	user  envelope.ClientID
	name  string
	born  int // devices of that name so far
	r     *rand.Rand
	id    envelope.NodeID
	count int // messages so far
	rooms []envelope.SessionID
	taken []envelope.Envelope // acknowledged; may be sent again
	line  *line               // the present connection

	mu   sync.Mutex
	seen map[envelope.Address]uint64 // guarded by mu
}

// line is one connection of a walker.
type line struct {
	ws      *websocket.Conn
	stream  int
	ctx     context.Context
	cancel  context.CancelFunc
	answers chan envelope.Control
	pause   atomic.Int64 // how long the reader is to stand still, once
	over    chan struct{}
}

func newWalker(w *world, user envelope.ClientID, name string, r *rand.Rand) *walker {
	k := &walker{w: w, user: user, name: name, r: r}
	k.renew()
	return k
}

// renew makes it another device of the same user, which knows nothing.
func (k *walker) renew() {
	k.born++
	k.id = envelope.NodeID(fmt.Sprint(k.name, "-", k.born))
	k.rooms, k.taken = nil, nil
	k.mu.Lock()
	k.seen = make(map[envelope.Address]uint64)
	k.mu.Unlock()
	k.w.born(k.id)
}

// live is its life. It calls done when it sends nothing any more.
func (k *walker) live(done func()) {
	for n := range k.w.p.lives {
		if n > 0 && k.r.IntN(8) == 0 {
			k.renew()
		}
		k.connect()
		for range 1 + k.r.IntN(k.w.p.acts) {
			time.Sleep(time.Duration(k.r.IntN(1000)) * time.Millisecond)
			k.act()
		}
		if n < k.w.p.lives-1 {
			k.hangUp()
		}
	}
	done()
	<-k.w.calm
	if k.r.IntN(2) == 0 {
		k.hangUp()
	}
	for range 10 {
		if k.line.ended() {
			k.hangUp()
			k.connect()
		}
		time.Sleep(settling)
		if !k.line.ended() {
			k.w.note(event{what: evSettled, device: k.id, stream: k.line.stream})
			k.hangUp()
			return
		}
	}
	k.hangUp()
	k.w.note(event{what: evStuck, device: k.id, text: "no connection lasts"})
}

// settling is within what everything acknowledged must arrive after the last
// fault has been mended.
const settling = 30 * time.Second

func (k *walker) act() {
	switch n := k.r.IntN(20); {
	case n < 4 && len(k.rooms) < k.w.p.rooms:
		room := roomName(k.r.IntN(k.w.p.rooms))
		if !slices.Contains(k.rooms, room) {
			k.w.member(k.user, k.id, room, true, k.r)
			k.rooms = append(k.rooms, room)
		}
	case n == 4 && len(k.rooms) > 0:
		i := k.r.IntN(len(k.rooms))
		k.w.member(k.user, k.id, k.rooms[i], false, k.r)
		k.rooms = slices.Delete(k.rooms, i, i+1)
	case n == 5 && len(k.taken) > 0: // the same again
		k.deliver(k.taken[k.r.IntN(len(k.taken))])
	case n == 6 && len(k.taken) > 0: // something else under the same id
		e := k.taken[k.r.IntN(len(k.taken))]
		e.Body = fmt.Appendf(nil, `"payload":%q`, text(e)+otherwise)
		k.deliver(e)
	case n == 7:
		k.line.pause.Store(int64(k.r.IntN(20_000)) * int64(time.Millisecond))
	case n == 8:
		k.hangUp()
		k.connect()
	case n < 11:
		k.whisper()
	default:
		e := k.message()
		if k.r.IntN(8) == 0 {
			e.TTL = int64(1 + k.r.IntN(20))
		}
		if k.deliver(e) {
			k.taken = append(k.taken, e)
		}
	}
}

func (k *walker) message() envelope.Envelope {
	k.count++
	label := fmt.Sprint(k.id, ".", k.count)
	return to(k.w.anybody(k.r, k.rooms), label, label)
}

// connect opens a connection somewhere, and resumes in one of the ways there are.
func (k *walker) connect() {
	for range 100 {
		if k.tryConnect() {
			return
		}
		time.Sleep(time.Duration(100+k.r.IntN(500)) * time.Millisecond)
	}
	k.w.note(event{what: evStuck, device: k.id, text: "cannot connect"})
	k.line = newLine(nil, 0)
	close(k.line.over)
}

func newLine(ws *websocket.Conn, stream int) *line {
	l := &line{ws: ws, stream: stream, answers: make(chan envelope.Control, 64), over: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

func (k *walker) tryConnect() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	ws, err := k.w.dial(ctx, k.user, k.id, k.w.up(k.r))
	if err != nil {
		return false
	}
	hello := envelope.Control{Control: envelope.ControlHello}
	var given map[envelope.Address]uint64
	resume := true
	switch k.r.IntN(8) {
	case 0:
		resume = false
	case 1, 2, 3: // the server knows from where
	default:
		k.mu.Lock()
		given = maps.Clone(k.seen)
		k.mu.Unlock()
		hello.Cursors = envelope.ByText(given)
		for log, seq := range given {
			k.w.note(event{what: evHandled, device: k.id, log: log, seq: seq})
		}
	}
	hello.Resume = &resume
	heads, err := greet(ctx, ws, hello)
	if err != nil {
		_ = ws.CloseNow()
		return false
	}
	from := make(map[envelope.Address]uint64)
	for log, head := range heads {
		if seq, known := given[log]; known {
			from[log] = seq
		} else if !resume {
			from[log] = head
		}
	}
	k.line = newLine(ws, k.w.stream())
	k.w.note(event{what: evOpened, device: k.id, user: k.user, stream: k.line.stream, from: from})
	go k.listen(k.line, rand.New(rand.NewPCG(k.r.Uint64(), 1)))
	return true
}

// greet says hello and returns the heads that the server answers with.
func greet(ctx context.Context, ws *websocket.Conn, hello envelope.Control) (map[envelope.Address]uint64, error) {
	if err := ws.Write(ctx, websocket.MessageText, hello.AppendJSON(nil)); err != nil {
		return nil, err
	}
	_, frame, err := ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := envelope.ParseControl(frame)
	if err != nil {
		return nil, err
	}
	if answer.Control != envelope.ControlHello {
		return nil, fmt.Errorf("answered with %s", frame)
	}
	return answer.HeadMap()
}

// listen reads one connection to its end.
func (k *walker) listen(l *line, r *rand.Rand) {
	defer close(l.over)
	defer func() { _ = l.ws.CloseNow() }()
	parser := envelope.Parser{From: envelope.FromServer}
	for {
		if d := l.pause.Swap(0); d > 0 {
			select {
			case <-time.After(time.Duration(d)):
			case <-l.ctx.Done():
			}
		}
		_, frame, err := l.ws.Read(l.ctx)
		if err != nil {
			return
		}
		msg, err := parser.Parse(frame)
		if errors.Is(err, envelope.ErrControl) {
			k.control(l, frame)
			continue
		}
		if err != nil {
			k.w.note(event{what: evStuck, device: k.id, text: fmt.Sprintf("got %s: %v", frame, err)})
			return
		}
		k.w.note(gotEvent(k.id, l.stream, &msg))
		if msg.Seq > 0 {
			k.mu.Lock()
			k.seen[msg.Dest()] = max(k.seen[msg.Dest()], msg.Seq)
			k.mu.Unlock()
		}
		if r.IntN(4) == 0 {
			k.acknowledge(l)
		}
	}
}

func gotEvent(id envelope.NodeID, stream int, msg *envelope.Envelope) event {
	return event{
		what: evGot, device: id, stream: stream, log: msg.Dest(), seq: msg.Seq,
		text: said(msg), src: sender(msg),
	}
}

func (k *walker) control(l *line, frame []byte) {
	c, err := envelope.ParseControl(frame)
	if err != nil {
		k.w.note(event{what: evStuck, device: k.id, text: fmt.Sprintf("got %s: %v", frame, err)})
		return
	}
	switch c.Control {
	case envelope.ControlAck, envelope.ControlNack:
		select {
		case l.answers <- c:
		case <-l.ctx.Done():
		}
	case envelope.ControlGap:
		log, _ := envelope.ParseAddress(c.Log)
		k.w.note(event{what: evGapped, device: k.id, stream: l.stream, log: log, seq: c.Floor})
	}
}

// acknowledge says that everything seen has been handled.
func (k *walker) acknowledge(l *line) {
	k.mu.Lock()
	seen := maps.Clone(k.seen)
	k.mu.Unlock()
	for log, seq := range seen {
		k.w.note(event{what: evHandled, device: k.id, log: log, seq: seq})
	}
	c := envelope.Control{Control: envelope.ControlAck, Cursors: envelope.ByText(seen)}
	_ = l.ws.Write(l.ctx, websocket.MessageText, c.AppendJSON(nil)) // else the reader finds out
}

func (l *line) ended() bool {
	select {
	case <-l.over:
		return true
	default:
		return false
	}
}

// hangUp ends the connection, without a word or with one.
func (k *walker) hangUp() {
	if k.r.IntN(2) == 0 && !k.line.ended() {
		_ = k.line.ws.Close(websocket.StatusNormalClosure, "")
	}
	k.line.cancel()
	<-k.line.over
}

// whisper sends a volatile message, which nobody may get.
func (k *walker) whisper() {
	e := k.message()
	label := e.ID
	e.ID, e.Class = "", envelope.Volatile
	k.w.note(event{what: evSent, device: k.id, log: e.Dest(), text: label})
	if !k.line.ended() {
		_ = k.line.ws.Write(k.line.ctx, websocket.MessageText, e.AppendRequest(nil))
	}
}

// deliver sends a message until it is answered for good, and reports whether
// it was taken.
func (k *walker) deliver(e envelope.Envelope) bool {
	ev := event{device: k.id, log: e.Dest(), id: e.ID, text: text(e)}
	for range 60 {
		if k.line.ended() {
			k.hangUp()
			k.connect()
		}
		ev.what = evSent
		k.w.note(ev)
		ack, err := k.ask(e)
		if err == nil {
			ev.what, ev.seq = evAcked, ack
			k.w.note(ev)
			return true
		}
		if refusal, ok := errors.AsType[*envelope.Error](err); ok && !refusal.Code.Retry() {
			ev.what, ev.code = evRefused, refusal.Code
			k.w.note(ev)
			return false
		}
		time.Sleep(time.Duration(50+k.r.IntN(1000)) * time.Millisecond)
	}
	ev.what = evStuck
	ev.text = fmt.Sprintf("%q to %v is never taken", ev.text, ev.log)
	k.w.note(ev)
	return false
}

// otherwise ends what says something else under the id of another message.
const otherwise = "!"

// ask sends a message once, over the connection or by a call to any server,
// and returns the number under which it is stored.
func (k *walker) ask(e envelope.Envelope) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	other := strings.HasSuffix(text(e), otherwise) // the answer to what came under its id before may still be on its way
	if other || k.r.IntN(3) == 0 {
		ack, err := k.w.api(k.user, k.id, k.w.up(k.r)).SendHTTP(ctx, e)
		return ack.Seq, err
	}
	l := k.line
	if err := l.ws.Write(l.ctx, websocket.MessageText, e.AppendRequest(nil)); err != nil {
		return 0, err
	}
	for {
		select {
		case c := <-l.answers:
			switch {
			case c.ID != e.ID: // of an earlier attempt
			case c.Control == envelope.ControlNack:
				return 0, &envelope.Error{Code: c.Code, Detail: c.Detail}
			default:
				return c.Seq, nil
			}
		case <-l.over:
			return 0, errors.New("the connection is over")
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// rider is a device with the Go client, which comes back by itself: it sends
// without waiting for answers.
type rider struct {
	w       *world
	user    envelope.ClientID
	id      envelope.NodeID
	r       *rand.Rand
	count   int
	rooms   []envelope.SessionID
	client  *client.Client
	stream  int
	unsure  sync.WaitGroup // messages not answered
	reading sync.WaitGroup
}

// live is its life. It calls done when it sends nothing any more.
func (d *rider) live(done func()) {
	d.w.born(d.id)
	var last *client.Client
	for n := range d.w.p.lives {
		d.open(last)
		for range 1 + d.r.IntN(d.w.p.acts) {
			time.Sleep(time.Duration(d.r.IntN(1000)) * time.Millisecond)
			d.act()
		}
		d.unsure.Wait()
		if n < d.w.p.lives-1 {
			d.close()
			last = d.client
		}
	}
	done()
	<-d.w.calm
	for range 100 {
		if d.client.State() == client.Connected {
			break
		}
		time.Sleep(time.Second)
	}
	time.Sleep(settling)
	if d.client.State() != client.Connected {
		d.w.note(event{what: evStuck, device: d.id, text: "is not connected"})
	}
	d.w.note(event{what: evSettled, device: d.id, stream: d.stream})
	d.close()
}

func (d *rider) act() {
	switch n := d.r.IntN(10); {
	case n < 2:
		room := roomName(d.r.IntN(d.w.p.rooms))
		if !slices.Contains(d.rooms, room) {
			d.w.member(d.user, d.id, room, true, d.r)
			d.rooms = append(d.rooms, room)
		}
	case n == 2 && len(d.rooms) > 0:
		d.unsure.Wait() // a message must not find itself outside
		i := d.r.IntN(len(d.rooms))
		d.w.member(d.user, d.id, d.rooms[i], false, d.r)
		d.rooms = slices.Delete(d.rooms, i, i+1)
	default:
		for range 1 + d.r.IntN(6) {
			d.count++
			label := fmt.Sprint(d.id, ".", d.count)
			d.send(to(d.w.anybody(d.r, d.rooms), label, label))
		}
	}
}

func (d *rider) send(e envelope.Envelope) {
	ev := event{what: evSent, device: d.id, log: e.Dest(), id: e.ID, text: text(e)}
	d.w.note(ev)
	d.unsure.Add(1)
	err := d.client.SendAsync(context.Background(), e, func(ack client.Ack, err error) {
		defer d.unsure.Done()
		ev.what, ev.seq = evAcked, ack.Seq
		if err != nil {
			ev.what, ev.code = evRefused, envelope.CodeOf(err)
		}
		d.w.note(ev)
	})
	if err != nil {
		d.unsure.Done()
		d.w.note(event{what: evStuck, device: d.id, text: err.Error()})
	}
}

// open starts a client where the last one ended, or where the server believes
// that it did.
func (d *rider) open(last *client.Client) {
	o := d.w.clientOptions(d.user, d.id, d.r)
	if last != nil && d.r.IntN(2) == 0 {
		o.Cursors, o.Epoch = last.Cursors(), last.Epoch()
	}
	d.stream = d.w.stream()
	stream := d.stream
	o.OnGap = func(g client.Gap) {
		d.w.note(event{what: evGapped, device: d.id, stream: stream, log: g.Log, seq: g.Floor})
	}
	c, err := client.New(o)
	if err != nil {
		panic(err) // the options are not complete
	}
	d.client = c
	d.w.note(event{what: evOpened, device: d.id, user: d.user, stream: stream, from: o.Cursors})
	d.reading.Go(func() {
		for msg, err := range c.Messages(context.Background()) {
			if err != nil {
				return
			}
			d.w.note(gotEvent(d.id, stream, &msg.Envelope))
			if msg.Seq > 0 { // about to be: with the next one
				d.w.note(event{what: evHandled, device: d.id, log: msg.Dest(), seq: msg.Seq})
			}
		}
	})
}

func (d *rider) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = d.client.Close(ctx)
	d.reading.Wait()
}
