package graph

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// claim makes this server's record its own, unless another process lives under
// its ID or Addr.
func (g *Graph) claim(ctx context.Context) error {
	rivals, err := g.rivals(ctx)
	if err != nil {
		return fmt.Errorf("graph: cannot read the servers: %w", err)
	}
	if !g.cfg.Force {
		if rivals, err = g.watch(ctx, rivals); err != nil {
			return err
		}
	}
	prev := ""
	for _, r := range rivals {
		if r.ID == g.record.ID {
			prev = r.Boot
		}
	}
	began := time.Now()
	err = g.cfg.Store.Claim(ctx, g.record, prev)
	if errors.Is(err, ErrRecordExists) || errors.Is(err, ErrTakenOver) {
		e := envelope.Errorf(envelope.Conflict, "another process claimed server id %q at the same moment", g.record.ID)
		e.Cause = err
		return e
	}
	if err != nil {
		return fmt.Errorf("graph: cannot claim server id %q: %w", g.record.ID, err)
	}
	g.renewed = began
	for _, r := range rivals {
		// Their processes, should they live, find the record gone or replaced.
		if r.ID != g.record.ID {
			err = errors.Join(err, g.cfg.Store.Release(ctx, r.ID, r.Boot))
		}
		err = errors.Join(err, g.dropEdges(ctx, r))
	}
	if err != nil {
		g.log.Warn("the edges of a taken over server could not be dropped", "err", err)
	}
	start := time.Now()
	records, err := g.cfg.Store.Servers(ctx)
	if err != nil {
		return g.undo(fmt.Errorf("graph: cannot read the servers: %w", err))
	}
	for _, r := range records {
		if g.isRival(r) && r.ID != g.record.ID {
			// Both of us may see the other here, and both give way.
			return g.undo(inUse(r))
		}
	}
	g.view.poll(records, start)
	return nil
}

// undo releases the record after a failed start and returns err.
func (g *Graph) undo(err error) error {
	ctx, cancel := context.WithTimeout(g.ctx, g.timeout())
	defer cancel()
	return errors.Join(err, g.cfg.Store.Release(ctx, g.record.ID, g.record.Boot))
}

// rivals returns the records with this server's ID or Addr.
func (g *Graph) rivals(ctx context.Context) ([]Record, error) {
	records, err := g.cfg.Store.Servers(ctx)
	if err != nil {
		return nil, err
	}
	var out []Record
	for _, r := range records {
		if g.isRival(r) {
			out = append(out, r)
		}
	}
	return out, nil
}

func (g *Graph) isRival(r Record) bool {
	return r.ID == g.cfg.Self.ID || r.Addr == g.cfg.Self.Addr && r.Addr != ""
}

// watch waits for a lease and refuses if one of the rivals shows a sign of
// life. It returns those that have not.
func (g *Graph) watch(ctx context.Context, first []Record) ([]Record, error) {
	if len(first) == 0 {
		return nil, nil
	}
	g.log.Info("a record of this server exists; watching whether it is alive",
		"server", first[0].ID, "addr", first[0].Addr, "for", g.cfg.Lease)
	beats := make(map[leaseKey]uint64)
	for _, r := range first {
		beats[leaseKey{r.ID, r.Boot}] = r.Beat
	}
	tick := time.NewTicker(g.cfg.Lease / 8)
	defer tick.Stop()
	for start := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
		rivals, err := g.rivals(ctx)
		if err != nil {
			return nil, fmt.Errorf("graph: cannot read the servers: %w", err)
		}
		for _, r := range rivals {
			if beat, ok := beats[leaseKey{r.ID, r.Boot}]; !ok || r.Beat != beat {
				return nil, inUse(r)
			}
		}
		if len(rivals) == 0 || time.Since(start) >= g.cfg.Lease {
			return rivals, nil
		}
	}
}

func inUse(r Record) error {
	return envelope.Errorf(envelope.Conflict,
		"server %q at %s is alive; stop it, choose another id and address, or start with force to take over", r.ID, r.Addr)
}

// keepLease renews the lease until ctx ends or another process has the record.
func (g *Graph) keepLease(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-g.thaw:
			err = g.reclaim(ctx, g.Boot())
		case <-g.renew:
			err = g.renewal(ctx)
		case <-timer.C:
			err = g.renewal(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrTakenOver):
			return err
		case err != nil:
			g.counters.renewalErrors.Add(1)
			g.log.Warn("the lease could not be renewed", "err", err)
			timer.Reset(g.cfg.Lease / 16)
		default:
			timer.Reset(g.cfg.Lease / 4)
		}
	}
}

// renewal writes the record with the next beat.
func (g *Graph) renewal(ctx context.Context) error {
	load, links := g.cfg.Load(), g.cfg.Links()
	g.mu.Lock()
	g.record.Beat++
	g.record.Load = load
	g.record.Links = links
	r := g.record
	g.mu.Unlock()
	callCtx, cancel := context.WithTimeout(ctx, g.timeout())
	defer cancel()
	start := time.Now()
	err := g.cfg.Store.Renew(callCtx, r)
	g.wrote.Store(int64(time.Since(start)))
	if errors.Is(err, ErrTakenOver) {
		// Either another process has it, or it was deleted: by a janitor
		// after a minute without renewals, or with the whole store.
		return g.reclaim(ctx, r.Boot)
	}
	if err == nil {
		g.counters.renewals.Add(1)
		g.mu.Lock()
		g.renewed = start
		news := r.Revivals > g.counted
		g.counted = r.Revivals
		g.mu.Unlock()
		if news { // the next loss has another id from now on
			g.cfg.OnRevival()
		}
	}
	return err
}

// Revived takes the word of a server that it had taken a boot of this one for dead,
// which has been so revivals times before. Several may say so of the same time.
func (g *Graph) Revived(boot string, revivals uint64) {
	g.mu.Lock()
	news := g.record.Boot == boot && g.record.Revivals == revivals
	if news {
		g.record.Revivals++
	}
	g.mu.Unlock()
	if news {
		g.log.Warn("others had taken this server for dead; it could not renew its lease")
		signal(g.renew)
	}
}

// reclaim takes a new boot id, over the record of the boot prev or in place of
// a record that is gone, and has all edges written anew. It tries until it
// succeeds, ctx ends, or another process turns out to have the record.
func (g *Graph) reclaim(ctx context.Context, prev string) error {
	r := g.self()
	old := r.Boot
	r.Boot = newBoot()
	var began time.Time
	for tries := 0; ; tries++ {
		r.Beat++
		began = time.Now()
		err := g.claimOver(ctx, r, prev)
		if errors.Is(err, ErrTakenOver) || errors.Is(err, ErrRecordExists) {
			var mine bool
			mine, prev, err = g.whose(ctx, r.Boot, old)
			if errors.Is(err, ErrTakenOver) {
				return err
			}
			if err == nil && !mine {
				err = errNotYet
			}
		}
		if err == nil {
			break
		}
		g.counters.renewalErrors.Add(1)
		g.log.Warn("a new boot id could not be claimed", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(backoff(tries), g.cfg.Lease/8)):
		}
	}
	g.mu.Lock()
	r.Draining = g.record.Draining
	r.Beat = max(r.Beat, g.record.Beat) + 1
	g.record, g.renewed, g.counted = r, began, r.Revivals
	g.mu.Unlock()
	g.counters.boots.Add(1)
	g.log.Warn("took a new boot id", "boot", r.Boot, "was", old)
	g.holds.claimed(r.Boot)
	g.cfg.OnRevival()
	signal(g.speak)
	callCtx, cancel := context.WithTimeout(ctx, g.timeout())
	defer cancel()
	if err := g.cfg.Store.DropEdges(callCtx, r.ID, old); err != nil {
		g.log.Debug("edges of the last boot could not be dropped", "err", err) // who meets one deletes it
	}
	return nil
}

func (g *Graph) claimOver(ctx context.Context, r Record, prev string) error {
	ctx, cancel := context.WithTimeout(ctx, g.timeout())
	defer cancel()
	return g.cfg.Store.Claim(ctx, r, prev)
}

// errNotYet means that the next claim has a good chance.
var errNotYet = errors.New("graph: the record has changed meanwhile")

// whose finds out what a refused claim means: mine when the record is that of
// the new boot after all (an earlier try had arrived), else the boot to claim
// over next, or ErrTakenOver.
func (g *Graph) whose(ctx context.Context, boot, old string) (mine bool, prev string, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.timeout())
	defer cancel()
	rivals, err := g.rivals(ctx)
	if err != nil {
		return false, "", err
	}
	for _, r := range rivals {
		switch {
		case r.ID != g.cfg.Self.ID:
			return false, "", ErrTakenOver // it has our address
		case r.Boot == boot:
			return true, "", nil
		case r.Boot == old:
			prev = old
		default:
			return false, "", ErrTakenOver
		}
	}
	return false, prev, nil
}

// watchFreeze notices that this process stood still, from last on. Wall clocks play no part.
func (g *Graph) watchFreeze(ctx context.Context, last time.Time) {
	tick := time.NewTicker(g.cfg.Lease / 16)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := g.cfg.now() // once: between two looks it may stand still, too
		if gap := now.Sub(last); gap > g.cfg.Lease/2 {
			g.counters.freezes.Add(1)
			g.log.Error("this process stood still; closing all connections", "for", gap)
			g.cfg.OnFrozen()
			signal(g.thaw)
			now = g.cfg.now()
		}
		last = now
	}
}

// pollStore reads all records again and again.
func (g *Graph) pollStore(ctx context.Context) {
	tick := time.NewTicker(g.cfg.Lease / 8)
	defer tick.Stop()
	for {
		var asked []chan error
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-g.news:
		case c := <-g.polls:
			asked = append(asked, c)
		}
		for more := true; more; {
			select {
			case c := <-g.polls:
				asked = append(asked, c)
			default:
				more = false
			}
		}
		err := g.poll(ctx)
		for _, c := range asked {
			c <- err // has room
		}
	}
}

func (g *Graph) poll(ctx context.Context) error {
	callCtx, cancel := context.WithTimeout(ctx, g.timeout())
	defer cancel()
	start := time.Now()
	boot := g.Boot()
	records, err := g.cfg.Store.Servers(callCtx)
	if err != nil {
		if ctx.Err() == nil {
			g.counters.pollErrors.Add(1)
			g.log.Warn("the servers could not be read", "err", err)
		}
		return err
	}
	g.view.poll(records, start)
	for _, r := range records {
		if r.ID == g.cfg.Self.ID && r.Boot == boot {
			return nil
		}
	}
	signal(g.renew) // it will find out what became of our record
	return nil
}

// refresh returns after a poll that began later than the call.
func (g *Graph) refresh(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case g.polls <- done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sweep drops what boots that are long dead have left behind. The server with
// the lowest id does it for all; should two do it at once, no harm is done.
func (g *Graph) sweep(ctx context.Context) {
	tick := time.NewTicker(g.cfg.Lease)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if others := g.view.others(); len(others) > 0 && others[0].ID < g.cfg.Self.ID {
			continue
		}
		for _, dead := range g.view.leftovers() {
			if g.view.isAlive(dead.id, dead.boot) {
				continue // back, while another one was being looked at
			}
			if err := g.drop(ctx, dead); err != nil {
				g.log.Debug("a dead server's edges could not be dropped", "server", dead.id, "err", err)
				break
			}
			g.counters.sweeps.Add(1)
			g.view.swept(dead.leaseKey)
		}
	}
}

// errNotDead means that a boot is back that somebody was about to clean up after.
var errNotDead = errors.New("graph: the server is back")

// drop deletes the record before the edges: a server that comes back to life finds
// that out and takes a new boot id before it could miss its edges. What comes before
// may take long, and begins anew each time.
func (g *Graph) drop(ctx context.Context, dead leftover) error {
	if err := g.cfg.OnDead(ctx, dead.rec); err != nil {
		return err
	}
	if g.view.isAlive(dead.id, dead.boot) {
		return errNotDead // it is back, while it was looked at
	}
	ctx, cancel := context.WithTimeout(ctx, g.timeout())
	defer cancel()
	if !dead.gone {
		if err := g.cfg.Store.Release(ctx, dead.id, dead.boot); err != nil {
			return err
		}
	}
	return g.cfg.Store.DropEdges(ctx, dead.id, dead.boot)
}

// dropEdges drops what a dead boot has left, once somebody has had a look at it.
func (g *Graph) dropEdges(ctx context.Context, dead Record) error {
	if err := g.cfg.OnDead(ctx, dead); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.timeout())
	defer cancel()
	return g.cfg.Store.DropEdges(ctx, dead.ID, dead.Boot)
}
