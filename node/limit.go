package node

import (
	"context"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// Limits bound what one device, one user and one client address may ask of this
// server, and what one session is sent. Each server counts for itself. The app is
// bound by its address alone, and what is on the same machine as the server not by its address; of
// IPv6 an address is a network of 64 bits. A number of 0 bounds nothing.
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
	// static after construction
	limit rate.Limit
	burst int

	refusals refusals

	mu sync.Mutex
	of *simplelru.LRU[K, *rate.Limiter] // guarded by mu
}

func newLimiter[K comparable](n int, per, burst time.Duration, detail string) *limiter[K] {
	if n <= 0 {
		return nil
	}
	of, err := simplelru.NewLRU[K, *rate.Limiter](maxLimited, nil)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	perSecond := float64(n) / per.Seconds()
	return &limiter[K]{limit: rate.Limit(perSecond), burst: max(1, int(perSecond*burst.Seconds())), refusals: refusals{detail: detail}, of: of}
}

// refusals are what a limiter says and how often.
type refusals struct {
	detail string // static
	count  atomic.Uint64
}

// share is somebody's bucket. A connection keeps its own, so that none is looked
// up for each message. The zero one bounds nothing.
type share struct {
	bucket *rate.Limiter
	of     *refusals
}

// share returns somebody's bucket.
func (l *limiter[K]) share(who K) share { return l.multiple(who, 1) }

// multiple is share of a bucket for n times what it is for others.
func (l *limiter[K]) multiple(who K, n int) share {
	if l == nil {
		return share{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	bucket, known := l.of.Get(who)
	if !known {
		bucket = rate.NewLimiter(l.limit*rate.Limit(n), l.burst*n)
		l.of.Add(who, bucket)
	}
	return share{bucket, &l.refusals}
}

// take takes a token, or refuses with RateLimited.
func (s share) take() error {
	if s.bucket == nil {
		return nil
	}
	now := time.Now()
	if s.bucket.AllowN(now, 1) {
		return nil
	}
	s.of.count.Add(1)
	seconds := max(0, 1-s.bucket.TokensAt(now)) / float64(s.bucket.Limit())
	return &envelope.Error{Code: envelope.RateLimited, Detail: s.of.detail, RetryMS: max(1, int64(math.Ceil(1000*seconds)))}
}

// count returns how often it has refused.
func (l *limiter[K]) count() uint64 {
	if l == nil {
		return 0
	}
	return l.refusals.count.Load()
}

// takeFrom takes a token of the address that ctx names, if it is bound.
func takeFrom(ctx context.Context, l *limiter[netip.Addr]) error {
	if l == nil {
		return nil
	}
	addr := boundAddress(gateway.AddressOf(ctx))
	if !addr.IsValid() {
		return nil
	}
	return l.share(addr).take()
}

// boundAddress returns the address by which a client at one is bound; the zero
// one when it is not.
func boundAddress(addr netip.Addr) netip.Addr {
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
	if r := who.Rights; r != nil && r.Rate > 0 && (l.device == nil || rate.Limit(r.Rate) < l.device.limit) {
		return l.rated.multiple(rated{who.Node, r.Rate}, r.Rate)
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
	if bound := boundAddress(c.address); bound.IsValid() {
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
