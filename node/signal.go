package node

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/allsparkrt/allspark/envelope"
)

// SignalLimit bounds the messages that one device may send to one session, or
// to somebody in it, without their being stored: typing and the like. Each of
// them goes to everybody there, so a member that sends too many of them costs
// all others. The owner and moderators of the session, the master of a game and
// the app are not bounded.
//
// Each server counts what comes in by it.
type SignalLimit struct {
	PerSecond int // in the long run; 0: no bound
	Burst     int // at once; at least one
}

const (
	// maxSignallers is how many senders and sessions are remembered; who has
	// been silent longest is forgotten first.
	maxSignallers = 100_000
	// trustLeads is how long it is believed that somebody leads a session, or
	// does not.
	trustLeads = 2 * time.Second
)

// signals count such messages. Their methods are safe for concurrent use.
type signals struct {
	every time.Duration // between two in the long run; 0: there is no limit
	slack time.Duration // how far one may be ahead of that

	mu   sync.Mutex
	sent *simplelru.LRU[signaller, *signalling] // guarded by mu
}

// signaller is a device, whatever name it has in the session.
type signaller struct {
	device  envelope.NodeID
	session envelope.SessionID
}

// signalling is a token bucket, kept as the time up to which the messages so
// far have used it (the virtual scheduling of ITU-T I.371).
type signalling struct {
	paid  time.Time
	leads bool      // has no limit
	asked time.Time // when that was found out
}

func newSignals(limit SignalLimit) *signals {
	sent, err := simplelru.NewLRU[signaller, *signalling](maxSignallers, nil)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	s := &signals{sent: sent}
	if limit.PerSecond > 0 {
		s.every = time.Second / time.Duration(limit.PerSecond)
		s.slack = time.Duration(max(limit.Burst, 1)-1) * s.every
	}
	return s
}

// take takes a token, or returns how long it is until there is one. leads is
// what is known of whether that matters, known whether anything is.
func (s *signals) take(from signaller, now time.Time) (wait time.Duration, leads, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of, ok := s.sent.Get(from)
	if !ok {
		of = new(signalling)
		from.session = envelope.SessionID(strings.Clone(string(from.session))) // not the message's: see envelope.Address.Clone
		s.sent.Add(from, of)
	}
	if of.paid.Before(now) {
		of.paid = now
	}
	if wait = of.paid.Sub(now) - s.slack; wait > 0 {
		return wait, of.leads, now.Sub(of.asked) < trustLeads
	}
	of.paid = of.paid.Add(s.every)
	return 0, false, false
}

// learn notes whether somebody leads a session.
func (s *signals) learn(from signaller, leads bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if of, ok := s.sent.Get(from); ok {
		of.leads, of.asked = leads, now
	}
}

// maySignal refuses a message that is not to be stored when its sender has sent
// too many of them to the session. Only then is it looked up who that is.
func (n *Node) maySignal(ctx context.Context, who envelope.Principal, session envelope.SessionID) error {
	if n.signals.every == 0 || session == "" || who.App {
		return nil
	}
	from, now := signaller{who.Node, session}, time.Now()
	wait, leads, known := n.signals.take(from, now)
	if wait == 0 {
		return nil
	}
	if !known {
		var err error
		if leads, err = n.leads(ctx, who, session); err != nil {
			return err
		}
		n.signals.learn(from, leads, now)
	}
	if leads {
		return nil
	}
	return &envelope.Error{
		Code: envelope.RateLimited, Detail: "too many messages that are not stored, to this session",
		RetryMS: (wait + time.Millisecond - 1).Milliseconds(),
	}
}

// leads reports whether somebody leads a session: of a topic it is the owner.
func (n *Node) leads(ctx context.Context, who envelope.Principal, session envelope.SessionID) (bool, error) {
	if !session.IsTopic() {
		return n.sessions.Leads(ctx, who, session)
	}
	rules, err := n.topics.Get(ctx, session)
	return rules.Owner == who.Node, err
}
