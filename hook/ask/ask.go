// Package ask asks the backend of an app whether somebody may do something: one
// signed HTTP request for each question, and an answer that holds for a while.
//
// The request is a POST of a [Question] as JSON, signed as those of package hook
// are. The answer is 200 with
//
//	{"allow": true, "reason": "what the client is told", "ttl_ms": 5000}
//
// of which only allow is needed, or 403, which is a no and may have a reason too.
// Everything else, a redirect among it, is a failure; what is then done is a
// matter of configuration.
package ask

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/allsparkrt/allspark/envelope"
)

// Action is what somebody wants to do.
type Action string

// The actions.
const (
	Connect Action = "connect" // to be told of servers, and to open a connection to one
	Join    Action = "join"    // a session, also by making it; or to follow a topic, or read what was said there
	Send    Action = "send"
)

// Actions are all there are.
func Actions() []Action { return []Action{Connect, Join, Send} }

// Question is what the backend is asked. Who asks is named as who it is, also
// in a session where it is or will be by an alias; by which, is not said.
type Question struct {
	Action  Action            `json:"action"`
	Node    envelope.NodeID   `json:"node_id"`
	Client  envelope.ClientID `json:"client_id"`
	Guest   bool              `json:"guest"`
	Address netip.Addr        `json:"address,omitzero"` // the client's; zero: not known

	Session   envelope.SessionID `json:"session_id,omitzero"` // to be joined; "" with Create: of a random id
	Create    bool               `json:"create,omitzero"`     // it is to be made, and who makes it is its first member
	Anonymous bool               `json:"as_anonymous,omitzero"`

	// Where a message is to go, as its sender has it; one or two of them.
	DestNode    envelope.NodeID    `json:"dest_id,omitzero"`
	DestClient  envelope.ClientID  `json:"dest_client_id,omitzero"`
	DestSession envelope.SessionID `json:"dest_session_id,omitzero"`
}

const (
	defaultTimeout = 3 * time.Second
	// atOnce bounds the requests under way.
	atOnce = 64
	// maxWaiting bounds the questions that wait for an answer or their turn to
	// be asked, and maxWaitingOf those of one device.
	maxWaiting, maxWaitingOf = 4096, 32
	// maxKept bounds the answers that are kept; that which was not needed for the
	// longest time goes first.
	maxKept = 32 << 10
	// retryAfter is when it is worth trying again after a failure.
	retryAfter = time.Second
)

// Why a question has no answer. The others are of the request itself.
var (
	errBroken  = errors.New("ask: the backend has not answered lately")
	errFull    = errors.New("ask: too many questions wait")
	errTurn    = errors.New("ask: the question's turn did not come in time")
	errClosing = envelope.Errorf(envelope.GoingAway, "this server is shutting down; connect to another")
)

// Config is what a [Backend] is made of.
type Config struct {
	URL      string
	Secrets  [][]byte      // each signs, so that one can be changed
	For      []Action      // what is asked about
	Timeout  time.Duration // for an answer, waiting for the request's turn included; 0 means 3 s
	Keep     time.Duration // how long an answer holds, unless it says less; 0: no longer than it is waited for
	FailOpen bool          // what the backend does not answer is allowed; else refused for now
	Client   *http.Client  // nil means one of its own; redirects are not followed
	Log      *slog.Logger
}

// Stats counts questions and what has become of them: each adds to Allowed,
// Denied or one of the Failed, unless who asked has gone meanwhile.
type Stats struct {
	Requests      atomic.Uint64 // made; of several that ask the same at the same time there is one
	Kept          atomic.Uint64 // questions answered by an answer that was kept
	Allowed       atomic.Uint64
	Denied        atomic.Uint64
	FailedAnswer  atomic.Uint64 // no answer in time, or none that could be understood
	FailedBroken  atomic.Uint64 // not asked, because the backend has not answered lately
	FailedWaiting atomic.Uint64 // not asked, because too many questions wait
	Opened        atomic.Uint64 // how often it was found that the backend does not answer
	Broken        atomic.Bool   // so it is now
}

// Backend asks. A nil one allows everything. Its methods are safe for
// concurrent use.
type Backend struct {
	// Static after construction.
	cfg   Config
	stats Stats
	slots chan struct{}   // a token for each request under way
	ctx   context.Context // of the requests; it ends with Close
	close context.CancelFunc

	asking sync.WaitGroup // Add only while not closed, under mu

	mu      sync.Mutex
	closed  bool                             // guarded by mu
	kept    *simplelru.LRU[Question, answer] // guarded by mu
	waiting map[Question]*asked              // guarded by mu; without an answer yet
	of      map[envelope.NodeID]int          // guarded by mu; how many of them are whose
	breaker breaker                          // guarded by mu
}

// answer is what the backend has said.
type answer struct {
	allow  bool
	reason string
	until  time.Time // it holds
}

// asked is a question under way. answer, err and retry are there when done is closed.
type asked struct {
	question Question
	done     chan struct{}
	answer   answer
	err      error
}

// New returns a Backend; nil without a URL. [Backend.Close] ends it.
func New(cfg Config) *Backend {
	if cfg.URL == "" {
		return nil
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultTimeout)
	cfg.Client = newClient(cfg.Client)
	kept, err := simplelru.NewLRU[Question, answer](maxKept, nil)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	b := &Backend{
		cfg: cfg, slots: make(chan struct{}, atOnce), kept: kept,
		waiting: make(map[Question]*asked), of: make(map[envelope.NodeID]int),
	}
	b.ctx, b.close = context.WithCancel(context.Background())
	return b
}

// Close ends what is under way; whoever waits is told that the server shuts
// down, and so is who asks later.
func (b *Backend) Close() {
	if b == nil {
		return
	}
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.close()
	b.asking.Wait()
	b.cfg.Client.CloseIdleConnections()
}

// Stats returns the counters; nil of a nil Backend.
func (b *Backend) Stats() *Stats {
	if b == nil {
		return nil
	}
	return &b.stats
}

// Asks reports whether the backend is asked about an action at all.
func (b *Backend) Asks(about Action) bool {
	return b != nil && slices.Contains(b.cfg.For, about)
}

// May returns nil when something may be done. Else the error is an
// [*envelope.Error]: Forbidden with the backend's reason, Busy when there is no
// answer, or none before ctx ended, or GoingAway after [Backend.Close].
func (b *Backend) May(ctx context.Context, q Question) error {
	if !b.Asks(q.Action) {
		return nil
	}
	known, under, err := b.begin(q, time.Now())
	if under == nil {
		return b.verdict(known, err)
	}
	select {
	case <-under.done:
		return b.verdict(under.answer, under.err)
	case <-ctx.Done():
		return envelope.BusyError(retryAfter.Milliseconds(), "nobody waited for the app's answer", context.Cause(ctx))
	}
}

// begin returns the answer to a question that was kept, or what is under way
// about it.
func (b *Backend) begin(q Question, now time.Time) (answer, *asked, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a, ok := b.kept.Get(q); ok {
		if now.Before(a.until) {
			b.stats.Kept.Add(1)
			return a, nil, nil
		}
		b.kept.Remove(q)
	}
	under := b.waiting[q]
	switch {
	case b.closed:
		return answer{}, nil, errClosing
	case under != nil:
		return answer{}, under, nil
	case len(b.waiting) >= maxWaiting || b.of[q.Node] >= maxWaitingOf:
		return answer{}, nil, errFull
	}
	probe, ok := b.breaker.admit(now)
	if !ok {
		return answer{}, nil, errBroken
	}
	under = &asked{question: q, done: make(chan struct{})}
	b.waiting[q] = under
	b.of[q.Node]++
	b.asking.Go(func() { b.find(under, probe) })
	return answer{}, under, nil
}

// find gets the answer to a question. It does so to the end also when who asked
// has gone: there may be others, and the answer is kept.
func (b *Backend) find(under *asked, probe bool) {
	ctx, cancel := context.WithTimeout(b.ctx, b.cfg.Timeout)
	defer cancel()
	select {
	case b.slots <- struct{}{}:
		under.answer, under.err = b.request(ctx, under.question)
		<-b.slots
	case <-ctx.Done():
		under.err = errTurn
	}
	b.end(under, probe)
	close(under.done)
}

// end takes a question that has its answer, or will have none, from those that wait.
func (b *Backend) end(under *asked, probe bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q, now := under.question, time.Now()
	delete(b.waiting, q)
	if b.of[q.Node]--; b.of[q.Node] == 0 {
		delete(b.of, q.Node)
	}
	switch {
	case under.err == nil:
		if b.breaker.succeeded() {
			b.stats.Broken.Store(false)
			b.cfg.Log.Info("the app's backend answers again what is asked about clients")
		}
		if now.Before(under.answer.until) {
			b.kept.Add(q, under.answer)
		}
	case b.closed:
	case errors.Is(under.err, errTurn) && !probe: // too many questions are no sign that it is gone
	case b.breaker.failed(q.Node, probe, now):
		b.stats.Opened.Add(1)
		b.stats.Broken.Store(true)
		b.cfg.Log.Warn("the app's backend does not answer what is asked about clients; it is left alone for a while", "err", under.err)
	}
}

// verdict counts an answer, or its want, and returns what follows from it.
func (b *Backend) verdict(a answer, err error) error {
	switch {
	case err == nil && a.allow:
		b.stats.Allowed.Add(1)
		return nil
	case err == nil:
		b.stats.Denied.Add(1)
		return envelope.Errorf(envelope.Forbidden, "%s", cmp.Or(a.reason, "the app does not allow that"))
	case b.ctx.Err() != nil:
		return errClosing
	}
	switch {
	case errors.Is(err, errBroken):
		b.stats.FailedBroken.Add(1)
	case errors.Is(err, errFull), errors.Is(err, errTurn):
		b.stats.FailedWaiting.Add(1)
	default:
		b.stats.FailedAnswer.Add(1)
	}
	if b.cfg.FailOpen && !errors.Is(err, errFull) { // else who asks for too much is let through
		return nil
	}
	return envelope.BusyError(retryAfter.Milliseconds(), "the app does not say whether that is allowed", err)
}
