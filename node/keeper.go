package node

import (
	"context"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// How the keeper goes about it.
const (
	tidyChunk  = 200                   // logs listed at once
	tidyPause  = 20 * time.Millisecond // besides as long a pause as the work took
	tidyAsked  = 1024                  // logs waiting to be tidied before their turn
	tidyWithin = time.Minute           // for one log
)

// keeper applies the retention to the logs of the store, a few at a time: each
// server to those that rendezvous hashing gives it, so that several do not do
// the same work; nothing depends on that.
type keeper struct {
	// Static after construction.
	n       *Node
	ask     chan envelope.Address // each at most once
	pressed inbox.Retention       // of logs that had no room

	mu      sync.Mutex
	waiting map[envelope.Address]bool // guarded by mu; in ask, or about to be
}

func newKeeper(n *Node) *keeper {
	return &keeper{
		n: n, ask: make(chan envelope.Address, tidyAsked), pressed: pressed(n.cfg.Retention),
		waiting: make(map[envelope.Address]bool),
	}
}

// pressed is what is kept where room is needed. What a device has acknowledged,
// which otherwise stays for a while, is worth less than what is sent to it now.
func pressed(r inbox.Retention) inbox.Retention {
	r.Keep = maps.Clone(r.Keep)
	if limits := r.Keep[envelope.KindNode]; limits.Acknowledged > 0 {
		limits.Acknowledged = time.Nanosecond
		r.Keep[envelope.KindNode] = limits
	}
	return r
}

// full asks to look after a log that had no room, before its turn. It never blocks.
func (k *keeper) full(log envelope.Address) {
	k.mu.Lock()
	ask := !k.waiting[log] && len(k.waiting) < tidyAsked
	if ask { // else it will be refused again, and asked for again
		k.waiting[log] = true
	}
	k.mu.Unlock()
	if ask {
		k.ask <- log // there is room for all that wait
	}
}

// makeRoom looks after a log that had no room. Somebody may go on sending to
// one that stays full: that must cost the store no more than the rounds do.
func (k *keeper) makeRoom(ctx context.Context, log envelope.Address) {
	k.mu.Lock()
	delete(k.waiting, log)
	k.mu.Unlock()
	began := time.Now()
	k.tidy(ctx, log, k.pressed)
	pause(ctx, tidyPause+time.Since(began))
}

func (k *keeper) run(ctx context.Context) {
	every := k.n.timing.Tidy
	round := time.NewTimer(every/2 + rand.N(every))
	defer round.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case log := <-k.ask:
			k.makeRoom(ctx, log)
		case <-round.C:
			if err := k.round(ctx); err != nil && ctx.Err() == nil {
				k.n.log.Warn("logs could not be listed for retention; the next round will", "err", err)
			}
			round.Reset(every/2 + rand.N(every))
		}
	}
}

// round looks at every log once.
func (k *keeper) round(ctx context.Context) error {
	var after envelope.Address
	for {
		logs, err := k.n.inbox.Logs(ctx, after, tidyChunk)
		if err != nil || len(logs) == 0 {
			return err
		}
		after = logs[len(logs)-1]
		began := time.Now()
		for _, log := range logs {
			if k.n.owners.owner(log) == nil {
				k.tidy(ctx, log, k.n.cfg.Retention)
				k.retire(ctx, log)
			}
		}
		// Half of the time at most: the store is there for others.
		pause(ctx, tidyPause+time.Since(began))
		for range len(k.ask) {
			k.makeRoom(ctx, <-k.ask)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (k *keeper) tidy(ctx context.Context, log envelope.Address, keep inbox.Retention) {
	ctx, cancel := context.WithTimeout(ctx, tidyWithin)
	defer cancel()
	var gone uint64
	var err error
	if isTopic(log) {
		keep, err = k.ofTopic(ctx, log, keep)
	}
	if err == nil {
		gone, err = k.n.inbox.Tidy(ctx, log, keep)
	}
	k.n.stats.Trimmed.Add(gone)
	k.failed(ctx, log, err)
}

// retire has guests leave a session whose time is over. It reads who is in it,
// which may be many: that is for the rounds, not for whoever fills its log.
func (k *keeper) retire(ctx context.Context, log envelope.Address) {
	if !k.n.cfg.Guests || log.Kind != envelope.KindSession || isTopic(log) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tidyWithin)
	defer cancel()
	k.failed(ctx, log, k.n.retireGuests(ctx, envelope.SessionID(log.ID)))
}

func (k *keeper) failed(ctx context.Context, log envelope.Address, err error) {
	if err != nil && ctx.Err() == nil {
		k.n.stats.TidyErrors.Add(1)
		k.n.log.Debug("a log could not be looked after", "log", log, "err", err)
	}
}
