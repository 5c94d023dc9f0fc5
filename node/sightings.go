package node

import (
	"context"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
)

// How sightings are gathered before they are written.
const (
	sightEvery  = time.Second
	sightBatch  = 1000
	sightRetry  = time.Second
	sightWithin = 5 * time.Second
	maxUnseen   = 1 << 20 // addresses that wait to be written
	// sightAgain is how often those who stay connected are noted: by so much a
	// crash of this server can make their last sighting too old.
	sightAgain = 10 * time.Minute
)

// sightings notes when users and devices were last connected. What is noted
// is gathered, so that a thousand devices that come at once cost a few writes.
type sightings struct {
	n    *Node
	kick chan struct{} // holds a token when there is something to write

	mu      sync.Mutex
	unsaved map[envelope.Address]int64 // guarded by mu; Unix milliseconds
	saving  map[envelope.Address]int64 // guarded by mu; being written, only run changes it
}

func newSightings(n *Node) *sightings {
	return &sightings{n: n, kick: make(chan struct{}, 1), unsaved: make(map[envelope.Address]int64)}
}

// note says that a device of a user is connected now, or was until now. It
// never blocks.
func (s *sightings) note(who envelope.Principal) {
	if s.n.cfg.PresenceOff {
		return
	}
	now := time.Now().UnixMilli()
	s.add(map[envelope.Address]int64{who.Node.Address(): now, who.Client.Address(): now})
}

func (s *sightings) add(seen map[envelope.Address]int64) {
	s.mu.Lock()
	for addr, at := range seen {
		old, known := s.unsaved[addr]
		if !known && len(s.unsaved) >= maxUnseen {
			s.n.stats.SightingsLost.Add(1)
			continue
		}
		s.unsaved[addr] = max(old, at)
	}
	s.mu.Unlock()
	poke(s.kick)
}

// last returns when addresses were last seen, in Unix milliseconds; those never
// seen are absent.
func (s *sightings) last(ctx context.Context, addrs []envelope.Address) (map[envelope.Address]int64, error) {
	// First what is on its way, then the store: between the two it arrives.
	seen := make(map[envelope.Address]int64, len(addrs))
	s.mu.Lock()
	for _, addr := range addrs {
		if at := max(s.saving[addr], s.unsaved[addr]); at > 0 {
			seen[addr] = at
		}
	}
	s.mu.Unlock()
	for len(addrs) > 0 {
		some := addrs[:min(len(addrs), sightBatch)]
		addrs = addrs[len(some):]
		stored, err := s.n.cfg.Graph.Store.Sightings(ctx, some...)
		if err != nil {
			return nil, err
		}
		for _, g := range stored {
			seen[g.Addr] = max(seen[g.Addr], g.At)
		}
	}
	return seen, nil
}

// run writes sightings until ctx ends, and what is left then.
func (s *sightings) run(ctx context.Context) {
	again := time.NewTicker(sightAgain)
	defer again.Stop()
	for {
		select {
		case <-s.kick:
			pause(ctx, sightEvery)
		case <-again.C:
			for _, c := range s.n.conns.all() {
				s.note(c.who)
			}
			continue
		case <-ctx.Done():
			if err := s.save(context.WithoutCancel(ctx)); err != nil {
				s.n.log.Warn("sightings not saved at the end", "err", err)
			}
			return
		}
		if err := s.save(context.WithoutCancel(ctx)); err != nil {
			s.n.log.Warn("sightings not saved; trying again", "err", err)
			pause(ctx, sightRetry)
		}
	}
}

// save writes everything unsaved, in batches. What could not be written is
// unsaved again.
func (s *sightings) save(ctx context.Context) error {
	s.mu.Lock()
	s.saving, s.unsaved = s.unsaved, make(map[envelope.Address]int64)
	todo := s.saving
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, sightWithin)
	defer cancel()

	var err error
	batch := make([]graph.Sighting, 0, min(len(todo), sightBatch))
	write := func() {
		if err == nil && len(batch) > 0 {
			err = s.n.cfg.Graph.Store.PutSightings(ctx, batch)
		}
		if err != nil {
			failed := make(map[envelope.Address]int64, len(batch))
			for _, g := range batch {
				failed[g.Addr] = g.At
			}
			s.add(failed)
		}
		batch = batch[:0]
	}
	for addr, at := range todo {
		batch = append(batch, graph.Sighting{Addr: addr, At: at})
		if len(batch) == sightBatch {
			write()
		}
	}
	write()
	s.mu.Lock()
	s.saving = nil
	s.mu.Unlock()
	return err
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
