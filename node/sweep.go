package node

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// How a sweep goes about it.
const (
	sweepChunk   = 500                    // logs asked about at once
	sweepSpacing = 500 * time.Millisecond // between two sweeps
	sweepRetry   = 2 * time.Second        // after one that failed
	sweepShares  = 8                      // sweeps that look at all connections, where no other server changes anything
)

// sweeper compares what every reader here was sent with the heads of the logs.
// Live delivery is a hint that can get lost: with a peer link, a queue that
// overflowed, a server that died between append and delivery. The server that
// knows of such a loss asks for a sweep; besides there is one from time to time.
type sweeper struct {
	n     *Node
	ask   chan struct{}
	share byte // of the connections that was looked at last, see nextShare
}

func newSweeper(n *Node) *sweeper { return &sweeper{n: n, ask: make(chan struct{}, 1)} }

// request asks for a sweep soon. It never blocks.
func (s *sweeper) request() {
	poke(s.ask)
}

func (s *sweeper) run(ctx context.Context) {
	pause := func(d time.Duration) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for {
		every := s.n.timing.Sweep
		timer := time.NewTimer(every/2 + rand.N(every))
		asked := false
		select {
		case <-timer.C:
		case <-s.ask:
			asked = true
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		wait := sweepSpacing
		if err := s.sweep(ctx, asked); err != nil && ctx.Err() == nil {
			s.n.log.Warn("a sweep failed; trying again", "err", err)
			s.request()
			wait = sweepRetry
		}
		if !pause(wait) {
			return
		}
	}
}

func (s *sweeper) sweep(ctx context.Context, asked bool) error {
	s.n.stats.Sweeps.Add(1)
	s.n.peers.askUnlinked()
	logs := s.n.conns.logs()
	if s.n.cfg.Graph.Sole && len(logs) > 0 {
		// Asked for with its neighbours, a log takes an embedded store half the work. To
		// begin anywhere is for the others, should one of them be past reading.
		slices.SortFunc(logs, envelope.Address.Compare)
		begin := rand.N(len(logs))
		logs = slices.Concat(logs[begin:], logs[:begin])
	}
	for len(logs) > 0 {
		some := logs[:min(len(logs), sweepChunk)]
		logs = logs[len(some):]
		from := make(map[envelope.Address]uint64, len(some))
		for _, log := range some {
			from[log] = s.n.furthestBehind(log) + 1
		}
		heads, err := s.n.inbox.Heads(ctx, from)
		if err != nil {
			return err
		}
		for log, head := range heads {
			s.n.hint(log, head)
		}
	}
	look := s.n.conns.all()
	if !asked && s.n.cfg.Graph.Sole {
		look = s.nextShare(look)
	}
	var failed error // of one connection, which is no reason to forget the others
	for _, c := range look {
		// One after the other: a sweep is no reason to storm the store.
		c.toLook("")
		if err := c.lookAgain(); err != nil && c.ctx.Err() == nil {
			failed = err
		}
	}
	return failed
}

// nextShare returns those whose memberships this sweep looks at. A server with a
// store of its own hears of each change itself, and of most that an error has cut
// short, so there is little to be found. To read all memberships each minute would
// take 5 % of a core for 100,000 groups of two.
func (s *sweeper) nextShare(all []*conn) []*conn {
	s.share = (s.share + 1) % sweepShares
	return slices.DeleteFunc(all, func(c *conn) bool { return c.id[0]%sweepShares != s.share })
}

// furthestBehind returns how far the local reader that is least far in a log
// has been sent it, or has been told that it goes.
func (n *Node) furthestBehind(log envelope.Address) uint64 {
	least := uint64(math.MaxInt64)
	n.conns.eachFollower(log, func(f *follow) { least = min(least, f.heard()) })
	return least
}
