package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/push"
)

// Push is how devices without a connection are woken. The zero value, or one
// without senders, wakes none and costs nothing.
type Push struct {
	Store    push.Store
	Senders  map[push.Service]push.Sender
	After    time.Duration // how long a device has to acknowledge; 0 means 5 s
	Interval time.Duration // the least time between two notifications to a device; 0 means 2 minutes
	Text     push.Text
}

const (
	pushAfter    = 5 * time.Second
	pushInterval = 2 * time.Minute
	pushTick     = time.Second
	// pushWithin bounds how long a message waits for its intent to be noted.
	pushWithin = 2 * time.Second
	// pushPause is how long none waits after the store has not noted one.
	pushPause = 5 * time.Second
	// maxPushNoted bounds what is remembered of logs, for each purpose.
	maxPushNoted = 1 << 16
	// maxPushLooks bounds the logs that are looked at in a row.
	maxPushLooks = 500
)

var errPushOff = envelope.Errorf(envelope.NotFound, "this server sends no push notifications")

// waker notes which logs have to be looked at because somebody may have to be
// woken.
//
// Before a message is appended for somebody who may be away, it is put into the
// store that its log is to be looked at: a server that dies then leaves that to
// the others. A needless look does no harm, so this is done once for some time
// and not for each message. Of what is for a device that is connected, and of
// what comes so late that the look may have been before it, it is remembered here
// to look; when this server ends it leaves that to the others. When it dies they
// look at the devices that were connected to it, and each server looks at those
// whose connections end before they have acknowledged everything.
type waker struct {
	n     *Node
	queue *push.Queue
	store push.Store
	after time.Duration
	tests *limiter[envelope.NodeID] // what devices ask to be tested
	slots chan struct{}             // holds one for each test that is under way

	mu     sync.Mutex
	noted  map[envelope.Address]note     // guarded by mu
	looks  map[envelope.Address]look     // guarded by mu
	parted map[envelope.NodeID]time.Time // guarded by mu; when to look at devices whose connections have ended
	marked map[userLog]time.Time         // guarded by mu; when what was read is to be taken back
	paused time.Time                     // guarded by mu; the store is not asked to note anything until then
}

// note is that it is in the store that a log is to be looked at. A message that
// is in the log before sure is there in time for that.
type note struct{ again, sure time.Time } // again: when it is to be noted once more

// look is to look at a log at a time, if somebody has not acknowledged seq.
type look struct {
	at  time.Time
	seq uint64
}

type userLog struct {
	client envelope.ClientID
	log    envelope.Address
}

// newWaker returns nil when nobody is to be woken.
func newWaker(n *Node, cfg Push) *waker {
	if len(cfg.Senders) == 0 {
		return nil
	}
	if cfg.After == 0 {
		cfg.After = pushAfter
	}
	if cfg.Interval == 0 {
		cfg.Interval = pushInterval
	}
	w := &waker{
		n: n, store: cfg.Store, after: cfg.After,
		tests:  newLimiter[envelope.NodeID](maxPushTests, time.Minute, pushTestBurst, "too many tests of this device"),
		slots:  make(chan struct{}, pushTestsAtOnce),
		noted:  make(map[envelope.Address]note),
		looks:  make(map[envelope.Address]look),
		parted: make(map[envelope.NodeID]time.Time),
		marked: make(map[userLog]time.Time),
	}
	w.queue = push.NewQueue(push.Config{
		Store: cfg.Store, Readers: pushReaders{n, cfg.Store}, Senders: cfg.Senders,
		Interval: cfg.Interval, Text: cfg.Text, Log: n.log, Revoked: n.revokedToken,
		Failed: func(device envelope.NodeID, why push.DeadLetter) {
			n.hooks.pushFailed(device, string(why.Service), why.Reason)
		},
	})
	return w
}

// wakes reports whether a message is one that wakes devices: somebody says
// something, or invites, and it is to last.
func wakes(env *envelope.Envelope) bool {
	return env.Class == envelope.Durable && env.Revises() == 0 && !env.ForMaster && !env.DestSession.IsTopic() &&
		(!env.HasType || !envelope.SystemType(env.Type) || env.Type == envelope.TypeInvited)
}

// before notes, durably, what is to be done about a message that is going to be
// appended. What fails here is made up for by [waker.appended].
func (w *waker) before(ctx context.Context, log envelope.Address, env *envelope.Envelope) {
	if w == nil || !wakes(env) {
		return
	}
	now := time.Now()
	w.mu.Lock()
	wait := now.Before(w.noted[log].again) || now.Before(w.paused)
	w.mu.Unlock()
	if wait {
		return
	}
	within, cancel := context.WithTimeout(ctx, pushWithin)
	defer cancel()
	if log.Kind == envelope.KindNode && w.connected(within, log) {
		return
	}
	due, err := w.intend(within, log, now)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.n.log.Debug("it is not in the store that a log is to be looked at", "err", err)
		if ctx.Err() == nil { // else it was the sender that did not wait
			w.paused = time.Now().Add(pushPause)
		}
		return
	}
	if len(w.noted) >= maxPushNoted {
		clear(w.noted)
	}
	half := w.after / 2 // clocks of servers differ
	again := now.Add(half)
	if due.Before(again) { // but not with each message
		again = due
		if soon := now.Add(w.after / 10); again.Before(soon) {
			again = soon
		}
	}
	w.noted[log] = note{again: again, sure: due.Add(-half)}
}

// intend puts it into the store that a log is to be looked at, and returns when
// it will be at the earliest: somebody may have done so before.
func (w *waker) intend(ctx context.Context, log envelope.Address, now time.Time) (time.Time, error) {
	keys := []push.JobKey{{Task: push.Look, Addr: log}}
	if err := w.store.Touch(ctx, keys, now.Add(w.after).UnixMilli()); err != nil {
		return now, err
	}
	jobs, err := w.store.Jobs(ctx, keys)
	if err != nil || len(jobs) == 0 || jobs[0].Claim != "" { // it has begun, or is to begin anew at once
		return now, err
	}
	return time.UnixMilli(jobs[0].Due), nil
}

// connected reports whether an address has an edge, as far as is known.
func (w *waker) connected(ctx context.Context, log envelope.Address) bool {
	if w.n.conns.hasFollower(log) {
		return true
	}
	found := make(chan bool, 1)
	w.n.graph.Route(log, 0, func(servers []envelope.ServerID) { found <- len(servers) > 0 })
	select {
	case is := <-found:
		return is
	case <-ctx.Done():
		return false
	}
}

// appended says that a message is in its log. It never blocks.
func (w *waker) appended(log envelope.Address, env *envelope.Envelope, seq uint64) {
	if w == nil || !wakes(env) {
		return
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Before(w.noted[log].sure) {
		return
	}
	w.remember(log, seq, now)
}

// remember has a log looked at some time from now. Under mu.
func (w *waker) remember(log envelope.Address, seq uint64, now time.Time) {
	l, there := w.looks[log]
	if !there {
		if len(w.looks) >= maxPushNoted {
			w.queue.Stats.Lost.Add(1)
			return
		}
		l.at = now.Add(w.after)
	}
	l.seq = max(l.seq, seq)
	w.looks[log] = l
}

// read says that a user has read logs up to somewhere on one of its devices. It never blocks.
func (w *waker) read(client envelope.ClientID, marks map[envelope.Address]uint64) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for log := range marks {
		w.rememberRead(userLog{client, log}, time.Now())
	}
}

// rememberRead has taken back what was shown of a log, some time from now. Under mu.
func (w *waker) rememberRead(of userLog, now time.Time) {
	if len(w.marked) >= maxPushNoted {
		w.queue.Stats.Lost.Add(1)
		return
	}
	w.marked[of] = now.Add(2 * pushTick) // when the mark is in the store
}

// run does what was noted here, and its share of what is in the store.
func (w *waker) run(ctx context.Context) {
	if w == nil {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { w.queue.Run(ctx) })
	ticker := time.NewTicker(pushTick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			w.leave(ctx)
			return
		}
		looks, parted, marked := w.due(time.Now())
		err := errors.Join(w.lookAll(ctx, looks), w.lookAtParted(ctx, parted), w.takeBack(ctx, marked))
		if err != nil && ctx.Err() == nil {
			w.queue.Stats.Errors.Add(1)
			w.n.log.Warn("some devices are not woken yet, because the store did not answer", "err", err)
		}
	}
}

// takeBack takes back what was shown of what has been read; what the store does
// not answer, later.
func (w *waker) takeBack(ctx context.Context, marked []userLog) (err error) {
	for _, of := range marked {
		if failed := w.queue.Read(ctx, of.client, of.log); failed != nil {
			err = failed // one says enough
			w.mu.Lock()
			w.rememberRead(of, time.Now())
			w.mu.Unlock()
		}
	}
	return err
}

// due takes what is to be done now.
func (w *waker) due(now time.Time) (looks map[envelope.Address]uint64, parted []envelope.NodeID, marked []userLog) {
	w.mu.Lock()
	defer w.mu.Unlock()
	looks = make(map[envelope.Address]uint64)
	for log, l := range w.looks {
		if len(looks) == maxPushLooks {
			break
		}
		if l.at.After(now) {
			continue
		}
		delete(w.looks, log)
		if !w.acknowledged(log, l.seq) {
			looks[log] = l.seq
		}
	}
	for device, at := range w.parted {
		if len(parted) == maxPushLooks {
			break
		}
		if !at.After(now) {
			delete(w.parted, device)
			parted = append(parted, device)
		}
	}
	for of, at := range w.marked {
		if !at.After(now) {
			delete(w.marked, of)
			marked = append(marked, of)
		}
	}
	for log, of := range w.noted {
		if !of.again.After(now) {
			delete(w.noted, log)
		}
	}
	return looks, parted, marked
}

// acknowledged reports whether a device that is connected here has acknowledged
// an entry of its log. Under the waker's mu, which comes before a connection's.
func (w *waker) acknowledged(log envelope.Address, seq uint64) (has bool) {
	if log.Kind != envelope.KindNode {
		return false
	}
	w.n.conns.eachFollower(log, func(f *follow) {
		f.c.mu.Lock()
		defer f.c.mu.Unlock()
		has = has || !f.gone && f.acked >= seq
	})
	return has
}

// lookAll looks at logs; at those of which the store does not answer, later. Most
// of those of devices are passed over at once, because the devices have no token.
func (w *waker) lookAll(ctx context.Context, logs map[envelope.Address]uint64) error {
	var nodes []envelope.NodeID
	for log := range logs {
		if log.Kind == envelope.KindNode {
			nodes = append(nodes, envelope.NodeID(log.ID))
		}
	}
	var unknown, err error
	has := make(map[envelope.Address]bool, len(nodes))
	if len(nodes) > 0 {
		var tokens []push.Token
		tokens, unknown = w.store.TokensOf(ctx, nodes)
		for _, t := range tokens {
			has[t.Node.Address()] = true
		}
	}
	for log, seq := range logs {
		var failed error
		_, _, alias := envelope.NodeID(log.ID).Alias()
		switch {
		case log.Kind != envelope.KindNode || alias || has[log]:
			failed = w.queue.Look(ctx, log)
		default:
			failed = unknown
		}
		if failed != nil {
			err = failed // one says enough
			w.mu.Lock()
			w.remember(log, seq, time.Now())
			w.mu.Unlock()
		}
	}
	return err
}

// PushStats returns what was pushed; nil when nothing is.
func (n *Node) PushStats() *push.Stats {
	if n.waker == nil {
		return nil
	}
	return &n.waker.queue.Stats
}
