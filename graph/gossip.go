package graph

import (
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/allsparkrt/allspark/envelope"
)

// GossipConfig says where to gossip and with whom.
type GossipConfig struct {
	BindAddr      string // an IP; "" for all
	BindPort      int    // TCP and UDP; 0 takes a free one
	AdvertiseAddr string // an IP that others reach; "" for a private address of this machine
	AdvertisePort int    // 0 for the bound one
	Join          []string
	// Key is the secret of the mesh, of any length. Without it gossip is
	// neither encrypted nor authenticated.
	Key []byte
	// Label keeps apart meshes whose gossip could meet, such as the id of the
	// cluster; at most 255 bytes.
	Label string
	// Local tunes for servers on one machine instead of a network.
	Local bool
	// Transport replaces UDP and TCP; for tests.
	Transport memberlist.Transport
}

const (
	// gossipKeyInfo separates the gossip key from all others that are made of
	// the mesh key (RFC 5869, section 3.2).
	gossipKeyInfo = "allspark gossip v1"
	// maxJoins bounds the joins tried in one round.
	maxJoins = 16
)

// gossip is the memberlist of one server and what it is told by it. One that is nil joins
// nobody, and leaves and stops at once.
type gossip struct {
	// static
	list   *memberlist.Memberlist
	addr   string // host:port that others reach
	seeds  []string
	view   *view
	log    *slog.Logger
	counts *counters
	news   chan<- struct{} // signalled when a poll is worth the while
	saying chan struct{}   // held by whoever announces: memberlist cannot bear two at a time

	mu      sync.Mutex
	meta    []byte
	members map[string]string // names to addresses; memberlist's own Members cannot be read without a race
	stopped bool
}

// startGossip binds and listens. It contacts nobody. record is what to tell.
func startGossip(c GossipConfig, record Record, v *view, counts *counters, news chan<- struct{}, logger *slog.Logger) (*gossip, error) {
	s := &gossip{seeds: c.Join, view: v, counts: counts, news: news, log: logger, members: make(map[string]string), saying: make(chan struct{}, 1)}
	if err := s.describe(record, false); err != nil {
		return nil, err
	}
	mc := memberlist.DefaultLANConfig()
	if c.Local {
		mc = memberlist.DefaultLocalConfig()
	}
	mc.Name = string(record.ID)
	mc.Transport = c.Transport
	mc.BindAddr = cmp.Or(c.BindAddr, "0.0.0.0")
	mc.BindPort = c.BindPort
	mc.AdvertiseAddr = c.AdvertiseAddr
	mc.AdvertisePort = c.AdvertisePort
	if c.AdvertisePort == 0 {
		mc.AdvertisePort = c.BindPort
	}
	mc.Label = c.Label
	mc.TCPTimeout = min(mc.TCPTimeout, 5*time.Second) // an unreachable seed must not hold up a round of joins
	mc.DeadNodeReclaimTime = time.Nanosecond          // a server may come back with another gossip address
	mc.Logger = log.New(memberlistLog{logger}, "", 0)
	mc.Delegate = (*delegate)(s)
	mc.Events = (*delegate)(s)
	mc.Conflict = (*delegate)(s)
	if len(c.Key) > 0 {
		key, err := hkdf.Key(sha256.New, c.Key, nil, gossipKeyInfo, 32)
		if err != nil {
			return nil, fmt.Errorf("graph: gossip key: %w", err)
		}
		mc.SecretKey = key
	}
	if c.Transport == nil && net.ParseIP(mc.BindAddr) == nil {
		return nil, fmt.Errorf("graph: gossip bind address %q is not an IP address", mc.BindAddr)
	}
	list, err := memberlist.Create(mc)
	if err != nil {
		return nil, fmt.Errorf("%w on %s (TCP and UDP): %w", ErrListen,
			net.JoinHostPort(mc.BindAddr, strconv.Itoa(mc.BindPort)), err)
	}
	s.list = list
	s.mu.Lock()
	s.addr = s.members[mc.Name]
	s.mu.Unlock()
	if len(c.Key) == 0 {
		logger.Warn("gossip is neither encrypted nor authenticated: no mesh key")
	}
	return s, nil
}

// describe sets what the next announcement says.
func (s *gossip) describe(r Record, leaving bool) error {
	meta, err := appendMeta(nil, r, leaving)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meta = meta
	return nil
}

// announce spreads what describe has set. It waits for an announcement that is
// being made, and then at most for timeout.
func (s *gossip) announce(timeout time.Duration) {
	s.saying <- struct{}{}
	defer func() { <-s.saying }()
	if err := s.list.UpdateNode(timeout); err != nil {
		s.log.Debug("gossip announcement is slow", "err", err)
	}
}

// join contacts the seeds that are not members by their address, and the
// servers that the store lists and gossip does not know. Memberlist forgets
// members after a long partition and never looks for them again.
func (s *gossip) join(ctx context.Context, records []Record) (joined int) {
	if s == nil {
		return 0
	}
	known := make(map[string]bool)
	s.mu.Lock()
	for name, addr := range s.members {
		known[name] = true
		known[addr] = true
	}
	s.mu.Unlock()
	targets := make([]string, 0, len(s.seeds)+len(records))
	for _, seed := range s.seeds {
		if !known[seed] {
			targets = append(targets, seed)
		}
	}
	for _, r := range records {
		if r.Gossip != "" && !known[string(r.ID)] && !slices.Contains(targets, r.Gossip) {
			targets = append(targets, r.Gossip)
		}
	}
	rand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	targets = targets[:min(len(targets), maxJoins)]
	ok := make(chan int, len(targets))
	for _, target := range targets {
		go func() {
			n, err := s.list.Join([]string{target})
			if err != nil {
				s.log.Debug("gossip join failed", "seed", target, "err", err)
			}
			ok <- n
		}()
	}
	for range targets {
		select {
		case n := <-ok:
			joined += n
		case <-ctx.Done(): // Join cannot be cancelled, but ends within its time-out
			return joined
		}
	}
	return joined
}

// rejoin repeats join until ctx ends.
func (s *gossip) rejoin(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n := s.join(ctx, s.view.others()); n > 0 {
			s.counts.rejoins.Add(uint64(n))
		}
	}
}

// leave tells the others that this boot will not come back.
func (s *gossip) leave(r Record, timeout time.Duration) {
	if s == nil || s.isStopped() {
		return
	}
	// Memberlist does not tell its event delegate whether a member left or
	// failed, so the metadata says it first.
	if err := s.describe(r, true); err != nil {
		return
	}
	s.announce(timeout / 2)
	if err := s.list.Leave(timeout / 2); err != nil {
		s.log.Debug("gossip leave", "err", err)
	}
}

// stop ends all gossip at once, without a word to the others.
func (s *gossip) stop() {
	if s == nil {
		return
	}
	s.mu.Lock()
	stopped := s.stopped
	s.stopped = true
	s.mu.Unlock()
	if stopped {
		return
	}
	if err := s.list.Shutdown(); err != nil {
		s.log.Warn("gossip shutdown", "err", err)
	}
}

func (s *gossip) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// delegate is the side of gossip that memberlist calls, often under its own
// locks: nothing here blocks or calls back.
type delegate gossip

func (d *delegate) NodeMeta(int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.meta
}

func (d *delegate) NotifyMsg([]byte)                {}
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d *delegate) LocalState(bool) []byte          { return nil }
func (d *delegate) MergeRemoteState([]byte, bool)   {}

func (d *delegate) NotifyJoin(n *memberlist.Node)   { d.hear(n) }
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.hear(n) }

// NotifyLeave decides nothing: a member that gossip has lost may be on the
// other side of a partition and in touch with the store.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	d.mu.Lock()
	delete(d.members, n.Name)
	d.mu.Unlock()
	signal(d.news)
}

// NotifyConflict hears of a second gossip address under one server id. Which
// process has the id is decided in the store.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.counts.conflicts.Add(1)
	d.log.Warn("two gossip addresses claim one server id",
		"server", existing.Name, "known", existing.Address(), "other", other.Address())
}

func (d *delegate) hear(n *memberlist.Node) {
	d.mu.Lock()
	d.members[n.Name] = n.Address()
	d.mu.Unlock()
	r, leaving, err := parseMeta(n.Name, n.Meta)
	if err != nil {
		if envelope.ServerID(n.Name) != d.view.self {
			d.counts.badMeta.Add(1)
		}
		return
	}
	if d.view.gossip(r, leaving) {
		signal(d.news)
	}
}

// memberlistLog writes memberlist's "[LEVEL] text" lines to a slog.Logger.
type memberlistLog struct{ log *slog.Logger }

func (w memberlistLog) Write(p []byte) (int, error) {
	level := slog.LevelDebug
	text := strings.TrimSpace(string(p))
	if rest, ok := strings.CutPrefix(text, "["); ok {
		name, msg, found := strings.Cut(rest, "] ")
		if found {
			text = msg
		}
		switch name {
		case "INFO":
			level = slog.LevelInfo
		case "WARN", "ERR":
			level = slog.LevelWarn // what gossip cannot do, the store makes good
		}
	}
	w.log.Log(context.Background(), level, text)
	return len(p), nil
}
