package node

import (
	"context"
	"hash/maphash"
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
	sweepShares  = 8                      // so many sweeps look at everything, where no other server changes anything
)

// sweeper compares what every reader here was sent with the heads of the logs.
// Live delivery is a hint that can get lost: with a peer link, a queue that
// overflowed, a server that died between append and delivery. The server that
// knows of such a loss asks for a sweep; besides there is one from time to time.
type sweeper struct {
	n     *Node
	ask   chan struct{}
	seed  maphash.Seed // for the shares of logs
	share uint64       // that was looked at last, see nextShare
}

func newSweeper(n *Node) *sweeper {
	return &sweeper{n: n, ask: make(chan struct{}, 1), seed: maphash.MakeSeed()}
}

// Sweep has all readers here compared with the heads of the logs soon. It is for who
// knows that something may have come into the store after it was refused. It never blocks.
func (n *Node) Sweep() { n.sweeps.request() }

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
	logs, look := s.n.conns.logs(), s.n.conns.all()
	if s.n.cfg.Graph.Sole {
		// A server with a store of its own hears of each change itself, and of most that
		// an error has cut short. There is little to be found, so a sweep that nobody has
		// asked for is of a share. To ask about all logs each minute would take a fifth of
		// what 10,000 idle connections cost; to read all memberships, 5 % of a core for
		// 100,000 groups of two.
		if !asked {
			logs, look = s.nextShare(logs, look)
		}
		logs = inOrder(logs)
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

// nextShare returns which of all logs and connections this sweep looks at: an
// eighth, and each of them once in eight sweeps.
func (s *sweeper) nextShare(logs []envelope.Address, conns []*conn) ([]envelope.Address, []*conn) {
	s.share = (s.share + 1) % sweepShares
	logs = slices.DeleteFunc(logs, func(log envelope.Address) bool { return maphash.Comparable(s.seed, log)%sweepShares != s.share })
	return logs, slices.DeleteFunc(conns, func(c *conn) bool { return uint64(c.id[0])%sweepShares != s.share })
}

// inOrder puts logs in order: asked for with its neighbours, a log takes an embedded
// store half the work. It begins anywhere, for the sake of the others, should one of
// them be past reading.
func inOrder(logs []envelope.Address) []envelope.Address {
	slices.SortFunc(logs, envelope.Address.Compare)
	begin := rand.N(len(logs) + 1) // also when there are none
	return slices.Concat(logs[begin:], logs[:begin])
}

// furthestBehind returns how far the local reader that is least far in a log
// has been sent it, or has been told that it goes.
func (n *Node) furthestBehind(log envelope.Address) uint64 {
	least := uint64(math.MaxInt64)
	n.conns.eachFollower(log, func(f *follow) { least = min(least, f.heard()) })
	return least
}
