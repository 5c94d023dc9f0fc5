package node

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// Limits bound what one device, one user and one client address may ask of this
// server, and what one session is sent. Each server counts for itself. The app's
// calls and the number of its connections are bound by their address alone, what it says
// on these by nothing; what is on the same machine as the server is not bound by its address; of IPv6 an address is a
// network of 64 bits. A number of 0 bounds nothing.
type Limits struct {
	Device   int // messages and calls of a device, a second; its credential may allow less
	Client   int // messages and calls of a user, whatever the device, a second
	Session  int // messages to a session or topic, a second
	Address  int // messages on connections and calls from an address, a second
	Sessions int // sessions made from an address, a minute
	Guests   int // guests made from an address, a minute

	ClientConnections  int // devices of a user connected at once
	AddressConnections int // devices connected from an address at once
}

const (
	// limitBurst is for how long one may go without anything, and then do it all at once.
	limitBurst = 5 * time.Second
	// limitBurstSlow is the same of what is counted by the minute.
	limitBurstSlow = time.Minute
	// maxLimited is how many are remembered for each limit. Who has been silent
	// longest is forgotten first, and then has all tokens again.
	maxLimited = 100_000
	// capRetry is when it is worth trying to connect again.
	capRetry = 10 * time.Second
)

// limits count who asks for how much.
type limits struct {
	// static after construction; nil: no bound
	device   *limiter[envelope.NodeID]
	rated    *limiter[rated] // never nil
	client   *limiter[envelope.ClientID]
	session  *limiter[envelope.SessionID]
	address  *limiter[netip.Addr]
	sessions *limiter[netip.Addr]
	guests   *limiter[netip.Addr]
}

// rated is a device with a credential that says at what rate it may be used.
type rated struct {
	node envelope.NodeID
	rate int // a second
}

func newLimits(l Limits) limits {
	return limits{
		rated:    newLimiter[rated](1, time.Second, limitBurst, "too many messages and calls for this credential"),
		client:   newLimiter[envelope.ClientID](l.Client, time.Second, limitBurst, "too many messages and calls of this user"),
		session:  newLimiter[envelope.SessionID](l.Session, time.Second, limitBurst, "too many messages to this session"),
		device:   newLimiter[envelope.NodeID](l.Device, time.Second, limitBurst, "too many messages and calls of this device"),
		address:  newLimiter[netip.Addr](l.Address, time.Second, limitBurst, "too many messages and calls from this address"),
		sessions: newLimiter[netip.Addr](l.Sessions, time.Minute, limitBurstSlow, "too many new sessions from this address"),
		guests:   newLimiter[netip.Addr](l.Guests, time.Minute, limitBurstSlow, "too many new guests from this address"),
	}
}

// limiter is a token bucket for each of many. A nil one bounds nothing.
type limiter[K comparable] struct {
	terms // static after construction

	mu sync.Mutex
	of *simplelru.LRU[K, *bucket] // guarded by mu
}

// terms are what a bucket bounds, and how often it was too much.
type terms struct {
	// static after construction
	began  time.Time     // times in buckets are since then
	every  time.Duration // one token
	slack  time.Duration // how far one may be ahead of that
	detail string

	refused *atomic.Uint64
}

// bucket is a token bucket, kept as the time up to which its tokens are used (the
// virtual scheduling of ITU-T I.371). There is one for everybody who asks for
// anything.
type bucket struct{ paid atomic.Int64 }

func newLimiter[K comparable](n int, per, burst time.Duration, detail string) *limiter[K] {
	if n <= 0 {
		return nil
	}
	of, err := simplelru.NewLRU[K, *bucket](maxLimited, nil)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	every := per / time.Duration(n)
	return &limiter[K]{terms: terms{
		began: time.Now(), every: every, slack: max(every, burst), detail: detail, refused: new(atomic.Uint64),
	}, of: of}
}

// share is somebody's bucket. A connection keeps its own, so that none is looked
// up for each message. The zero one bounds nothing.
type share struct {
	bucket *bucket
	of     *terms
}

// share returns somebody's bucket.
func (l *limiter[K]) share(who K) share {
	if l == nil {
		return share{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.of.Get(who)
	if !known {
		b = new(bucket)
		l.of.Add(who, b)
	}
	return share{b, &l.terms}
}

// times returns the share on n times its terms.
func (s share) times(n int) share {
	of := *s.of
	of.every /= time.Duration(n)
	return share{s.bucket, &of}
}

// take takes a token, or refuses with RateLimited.
func (s share) take() error {
	if s.bucket == nil {
		return nil
	}
	now := time.Since(s.of.began)
	for {
		paid := s.bucket.paid.Load()
		next := max(time.Duration(paid), now) + s.of.every
		if over := next - now - s.of.slack; over > 0 {
			s.of.refused.Add(1)
			return &envelope.Error{
				Code: envelope.RateLimited, Detail: s.of.detail, RetryMS: (over + time.Millisecond - 1).Milliseconds(),
			}
		}
		if s.bucket.paid.CompareAndSwap(paid, int64(next)) {
			return nil
		}
	}
}

// count returns how often it has refused.
func (l *limiter[K]) count() uint64 {
	if l == nil {
		return 0
	}
	return l.refused.Load()
}

// takeFrom takes a token of the address that ctx names, if it is bound.
func takeFrom(ctx context.Context, l *limiter[netip.Addr]) error {
	if l == nil {
		return nil
	}
	addr := BoundAddress(gateway.AddressOf(ctx))
	if !addr.IsValid() {
		return nil
	}
	return l.share(addr).take()
}

// BoundAddress returns the address by which a client at one is bound; the zero
// one when it is not.
func BoundAddress(addr netip.Addr) netip.Addr {
	switch {
	case !addr.IsValid() || addr.IsLoopback():
		return netip.Addr{}
	case addr.Is6():
		network, _ := addr.Prefix(64) // a site's; it has as many addresses as it likes
		return network.Addr()
	}
	return addr
}

// ofDevice returns the bucket of a device: where its credential says so, a
// smaller one that goes with such a credential.
func (l *limits) ofDevice(who envelope.Principal) share {
	if r := who.Rights; r != nil && r.Rate > 0 && (l.device == nil || time.Second/time.Duration(r.Rate) > l.device.every) {
		return l.rated.share(rated{who.Node, r.Rate}).times(r.Rate)
	}
	return l.device.share(who.Node)
}

// maySendTo refuses a message to a session that is sent too many.
func (l *limits) maySendTo(who envelope.Principal, id envelope.SessionID) error {
	if who.App || id == "" {
		return nil
	}
	return l.session.share(id).take()
}

// mayCall refuses a command over HTTP of who has asked for too many.
func (l *limits) mayCall(ctx context.Context, who envelope.Principal, cmd gateway.Command) error {
	if who.App {
		return nil
	}
	if err := l.ofDevice(who).take(); err != nil {
		return err
	}
	if err := l.client.share(who.Client).take(); err != nil {
		return err
	}
	if _, is := cmd.(gateway.CreateSession); is {
		return takeFrom(ctx, l.sessions)
	}
	return nil
}

// shares are the buckets of a connection, from when it has asked for something.
// The app's are zero.
type shares struct {
	of                      *credential // they are those of who lives by it
	device, client, address share
}

// mayFrame refuses a message, or what else a connection asks for. Only the read
// loop calls it.
func (c *conn) mayFrame() error {
	if of := c.credential.Load(); c.shares == nil || c.shares.of != of {
		c.shares = c.sharesBy(of)
	}
	if err := c.shares.device.take(); err != nil {
		return err
	}
	if err := c.shares.client.take(); err != nil {
		return err
	}
	return c.shares.address.take()
}

// sharesBy returns the buckets of the connection while it lives by a credential.
func (c *conn) sharesBy(of *credential) *shares {
	found := &shares{of: of}
	if c.who.App {
		return found
	}
	found.device = c.n.limits.ofDevice(c.caller())
	found.client = c.n.limits.client.share(c.who.Client)
	if bound := BoundAddress(c.address); bound.IsValid() {
		found.address = c.n.limits.address.share(bound)
	}
	return found
}

// mayAsk refuses a frame that is no message but makes work, when there were too
// many. Acknowledgements are always heard. id is what the refusal names.
func (c *conn) mayAsk(cmd gateway.Command) (id string, err error) {
	switch cmd := cmd.(type) {
	case gateway.Subscribe:
		id = cmd.ID
	case gateway.Unsubscribe:
		id = cmd.ID
	case gateway.Refresh:
		id = cmd.ID
	case gateway.GetPresence, gateway.FetchPending:
	default:
		return "", nil
	}
	return id, c.mayFrame()
}

// MayCall refuses an HTTP call, by the address that ctx names, before it is
// known who calls. The error is an [*envelope.Error] with RateLimited.
func (n *Node) MayCall(ctx context.Context) error { return takeFrom(ctx, n.limits.address) }

// MayMakeGuest refuses another guest from the address that ctx names. The error
// is an [*envelope.Error] with RateLimited.
func (n *Node) MayMakeGuest(ctx context.Context) error { return takeFrom(ctx, n.limits.guests) }

// Limited returns how often each of the limits has refused something.
func (n *Node) Limited() map[string]uint64 {
	return map[string]uint64{
		"device": n.limits.device.count(), "credential": n.limits.rated.count(),
		"client": n.limits.client.count(), "session": n.limits.session.count(), "address": n.limits.address.count(),
		"address_sessions": n.limits.sessions.count(), "address_guests": n.limits.guests.count(),
		"client_connections":  n.conns.refusedClients.Load(),
		"address_connections": n.conns.refusedAddresses.Load(),
	}
}
