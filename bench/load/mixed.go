package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/bench/ledger"
	"github.com/allsparkrt/allspark/bench/peer"
)

// mixed is an ordinary day: most users are only there, and some of these come
// and go; the others write to one another, with receipts, in groups of ten, and
// small signals. Everybody watches whether three others are online. What a
// target cannot do is left out or replaced, which the result's note says.
type mixed struct {
	Users  int
	Active int // of them; whole groups
	Rate   float64
	Lasts  time.Duration
	Churn  float64 // users a second who go and come back
}

// The kinds of messages, which are counted apart: signals may overtake others.
const (
	signal = iota // volatile, to a user
	letter        // durable, to a user, with a receipt
	post          // durable, to a group; or to a topic
	kinds
)

// kind returns what the k-th message is: four letters, three signals and three
// posts in ten.
func kind(k int64) int {
	switch d := k % 10; {
	case d < 4:
		return letter
	case d < 7:
		return signal
	}
	return post
}

func (m mixed) run(ctx context.Context, r *run) error {
	d := &day{
		run: r, mixed: m, can: r.Target.About().Can, users: make([]*user, m.Users),
		ledger: ledger.New(), toEach: newHistogram(), toAck: newHistogram(), posts: make(map[tagged]sentAt),
	}
	d.note()
	for i := range d.users {
		d.users[i] = r.user(i)
	}
	if err := r.connectAll(ctx, m.Users, func(i int) error { return d.connect(ctx, i) }); err != nil {
		return err
	}
	if err := r.rooms(ctx, d.users[:m.Active]); err != nil {
		return err
	}
	if err := r.sleep(ctx, time.Second); err != nil {
		return err
	}
	before, err := r.meter.read()
	if err != nil {
		return err
	}
	d.start = time.Now()
	churning, stop := context.WithCancel(ctx)
	defer stop()
	var churner sync.WaitGroup
	var churned error
	churner.Go(func() { churned = d.churn(churning) })
	err = d.write(ctx)
	stop()
	churner.Wait()
	if err := errors.Join(err, churned); err != nil {
		return err
	}
	if err := d.watch(ctx, d.due.Load(), d.received.Load); err != nil {
		return err
	}
	after, err := r.meter.read()
	if err != nil {
		return err
	}
	if err := r.sleep(ctx, quiet); err != nil {
		return err
	}
	v := d.ledger.Verdict()
	r.verdict(v)
	r.result.Latency, r.result.ToAck = d.toEach.latency(), d.toAck.latency()
	r.costs(before, after, v.Received, "delivery")
	r.flow(v.Received, time.Duration(d.last.Load()), "deliveries")
	if d.can.Receipts {
		r.result.figure("receipts", "", float64(d.receipts.Load()), "")
	}
	r.percentiles()
	return nil
}

// day is mixed at work. Active users have the first indexes.
type day struct {
	*run
	mixed
	can    peer.Can
	users  []*user // an idle one's client: only the churner, once all are connected
	ledger *ledger.Ledger
	start  time.Time
	toEach *histogram
	toAck  *histogram

	received, receipts, due, last atomic.Int64

	posts   map[tagged]sentAt // guarded by posting: what has no answer yet
	posting sync.Mutex
}

type tagged struct {
	from int
	tag  uint64
}

type sentAt struct {
	at time.Time
	of []sentTo
}

type sentTo struct {
	stream ledger.Stream
	n      int
}

func (d *day) note() {
	d.without(
		missing{d.can.Durable, "durable messages (volatile instead)"},
		missing{d.can.Groups, "durable groups (topics instead)"},
		missing{d.can.Receipts, "receipts"},
		missing{d.can.Presence, "presence"},
	)
}

func (d *day) connect(ctx context.Context, i int) error {
	u := d.users[i]
	active := i < d.Active
	as := peer.User{Durable: active && d.can.Durable, Presence: d.can.Presence}
	if active && !d.can.Groups {
		as.Topics = []string{d.run.name("g", i/roomSize)}
	}
	err := d.run.connect(ctx, u, as, peer.Handler{
		Message:  func(body []byte) { d.receive(i, body) },
		Accepted: func(tag uint64) { d.answer(i, tag, true) },
		Refused:  func(tag uint64, _ string) { d.answer(i, tag, false) },
		Receipt:  func() { d.receipts.Add(1) },
	})
	if err != nil {
		return err
	}
	return d.watchFriends(d.users, i)
}

// churn has idle users go and come back until ctx ends.
func (d *day) churn(ctx context.Context) error {
	if d.Churn == 0 {
		return nil
	}
	ticker := time.NewTicker(time.Duration(float64(time.Second) / d.Churn))
	defer ticker.Stop()
	for i := d.Active; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if i == d.Users {
			i = d.Active
		}
		if err := d.users[i].client.Close(); err != nil {
			return err
		}
		if err := d.connect(context.WithoutCancel(ctx), i); err != nil {
			return err
		}
	}
}

// write sends at the fixed rate.
func (d *day) write(ctx context.Context) error {
	turn := rand.New(rand.NewPCG(3, 3))
	messages := int64(d.Rate * d.Lasts.Seconds())
	var body []byte
	for k := range messages {
		due := time.Duration(float64(k) / d.Rate * float64(time.Second))
		sleepUntil(d.start.Add(due))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var err error
		if body, err = d.send(turn, body, kind(k), uint64(k+1), due); err != nil {
			return err
		}
		d.progress(k, messages)
	}
	return nil
}

// send sends one message and returns the buffer for the next body.
func (d *day) send(turn *rand.Rand, body []byte, what int, tag uint64, due time.Duration) ([]byte, error) {
	from := turn.IntN(d.Active)
	sent := sentAt{at: d.start.Add(due)}
	var to string
	if what == post {
		first := from / roomSize * roomSize
		to = d.run.name("g", from/roomSize)
		for i := first; i < first+roomSize; i++ {
			if i != from {
				sent.of = append(sent.of, d.count(what, from, i))
			}
		}
	} else {
		i := (from + 1 + turn.IntN(d.Active-1)) % d.Active
		to = d.users[i].name
		sent.of = append(sent.of, d.count(what, from, i))
	}
	d.due.Add(int64(len(sent.of)))
	m := peer.Message{
		Durable: what == letter && d.can.Durable || what == post && d.can.Groups,
		Receipt: what == letter && d.can.Receipts,
	}
	// All copies of a post have the same number: members hear all of each other's posts.
	m.Body = stamp{run: d.id, from: uint32(from*kinds + what), n: uint32(sent.of[0].n), due: int64(due)}.appendBody(body[:0], bodySize)
	if m.Durable {
		m.Tag = tag
		d.posting.Lock()
		d.posts[tagged{from, tag}] = sent
		d.posting.Unlock()
	} else {
		for _, s := range sent.of {
			d.ledger.Take(s.stream, s.n)
		}
	}
	if what == post {
		return m.Body, d.users[from].client.Publish(to, m)
	}
	return m.Body, d.users[from].client.Send(to, m)
}

func (d *day) count(what, from, to int) sentTo {
	s := ledger.Stream{From: from*kinds + what, To: to}
	return sentTo{s, d.ledger.Send(s)}
}

func (d *day) receive(to int, body []byte) {
	s, ok := readStamp(body)
	if !ok || s.run != d.id || int(s.from)/kinds == to {
		return // or its own post
	}
	at := time.Since(d.start)
	d.toEach.record(at - time.Duration(s.due))
	d.last.Store(int64(at))
	d.ledger.Receive(ledger.Stream{From: int(s.from), To: to}, int(s.n))
	d.received.Add(1)
}

func (d *day) answer(from int, tag uint64, accepted bool) {
	key := tagged{from, tag}
	d.posting.Lock()
	sent, ok := d.posts[key]
	delete(d.posts, key)
	d.posting.Unlock()
	if !ok {
		return
	}
	d.toAck.record(time.Since(sent.at))
	for _, s := range sent.of {
		if accepted {
			d.ledger.Take(s.stream, s.n)
		} else {
			d.ledger.Refuse(s.stream, s.n)
		}
	}
}
