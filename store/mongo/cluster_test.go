package mongo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/inbox"
)

// cluster is a replica set as far as a log notices: rows are there before a
// majority has them, those that no majority has are lost when the primary
// changes, and commands are lost, answered late, or carried out when nobody
// waits for them any more. No test database can be made to do that on demand.
//
// It keeps one log and implements table.
type cluster struct {
	faults bool
	quota  inbox.Quota // that no insert may exceed

	mu        sync.Mutex
	random    *rand.Rand
	term      int // rises with every change of the primary
	rows      []clusterRow
	keys      map[string]int // index of each row
	committed int            // how many of the rows a majority has
	trimmed   int            // how many of the rows are stubs
	down      time.Time      // until when nobody answers
	broken    error
}

type clusterRow struct {
	key string
	row
}

var errLost = errors.New("the connection was lost")

// chance is true in one of n cases, while there are faults.
func (c *cluster) chance(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.faults && c.random.IntN(n) == 0
}

// soon returns a delay of up to limit.
func (c *cluster) soon(limit time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(c.random.Int64N(int64(limit)))
}

// reach fails while nobody answers.
func (c *cluster) reach(ctx context.Context) error {
	if err := sleep(ctx, c.soon(2*time.Millisecond)); err != nil {
		return err
	}
	begins := c.chance(150)
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); begins {
		c.down = now.Add(3 * time.Second)
	} else if !now.Before(c.down) {
		return nil
	}
	return errLost
}

func (c *cluster) insert(ctx context.Context, _ string, last tip, entries []*entry) (int, clash, error) {
	rows := make([]clusterRow, len(entries))
	for i, e := range entries {
		last = last.next(e)
		rows[i] = clusterRow{e.key, row{last, e.digest}}
	}
	if err := c.reach(ctx); err != nil {
		return 0, noClash, err
	}
	switch {
	case c.chance(20):
		return 0, noClash, errLost
	case c.chance(20): // It arrives when the sender has given up.
		late := c.soon(3 * time.Second)
		go func() {
			_ = sleep(context.Background(), late)
			_, _, _ = c.apply(context.Background(), rows)
		}()
		return 0, noClash, errLost
	case c.chance(30):
		c.elect()
	}
	n, why, err := c.apply(ctx, rows)
	if err == nil && c.chance(15) {
		err = errLost
	}
	return n, why, err
}

// apply carries out an insert, row by row, and waits for a majority. It ends
// with the term it began in.
func (c *cluster) apply(ctx context.Context, rows []clusterRow) (int, clash, error) {
	c.mu.Lock()
	term := c.term
	c.mu.Unlock()
	n, why := 0, noClash
	for n < len(rows) && why == noClash {
		if c.chance(50) {
			_ = sleep(ctx, c.soon(time.Second))
		}
		c.mu.Lock()
		if c.term != term {
			c.mu.Unlock()
			return 0, noClash, errLost
		}
		if why = c.clash(rows[n]); why == noClash {
			c.put(rows[n])
			n++
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	written := len(c.rows)
	c.mu.Unlock()
	if err := sleep(ctx, c.soon(4*time.Millisecond)); err != nil {
		return 0, noClash, err
	}
	if c.chance(30) { // The majority is slow.
		return 0, noClash, context.DeadlineExceeded
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.term != term {
		return 0, noClash, errLost
	}
	c.committed = max(c.committed, written)
	return n, why, nil
}

// clash checks the unique keys. Which of two that both clash is named is
// chance, and so is whether the server says which it was.
func (c *cluster) clash(r clusterRow) clash {
	_, byKey := c.keys[r.key]
	bySeq := r.seq <= uint64(len(c.rows))
	switch {
	case byKey && (!bySeq || c.random.IntN(2) == 0):
		return keyClash
	case bySeq && (byKey || c.random.IntN(3) > 0):
		return seqClash
	case bySeq:
		return keyClash
	}
	return noClash
}

// put appends a row, which must leave no hole.
func (c *cluster) put(r clusterRow) {
	if want := uint64(len(c.rows)) + 1; r.seq != want && c.broken == nil {
		c.broken = fmt.Errorf("%s was stored as %d when %d was the next", r.key, r.seq, want)
	}
	if x := c.whole(len(c.rows)).public(); c.quota.Exceeded(x, r.total-c.below(len(c.rows)).total) && c.broken == nil {
		c.broken = fmt.Errorf("%s was stored, though there is no room: %+v", r.key, x)
	}
	if c.keys == nil {
		c.keys = map[string]int{}
	}
	c.keys[r.key] = len(c.rows)
	c.rows = append(c.rows, r)
}

// elect makes another server the primary.
func (c *cluster) elect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.term++
	for _, r := range c.rows[c.committed:] {
		delete(c.keys, r.key)
	}
	c.rows = c.rows[:c.committed]
}

// seen returns how many rows a majority read shows: on a primary that was
// deposed and does not know it, those of some time ago.
func (c *cluster) seen(ctx context.Context) (int, error) {
	if err := c.reach(ctx); err != nil {
		return 0, err
	}
	if c.chance(20) {
		return 0, errLost
	}
	stale := c.chance(20)
	c.mu.Lock()
	defer c.mu.Unlock()
	if stale {
		return c.random.IntN(c.committed + 1), nil
	}
	return c.committed, nil
}

func (c *cluster) find(ctx context.Context, _ string, keys []string) (map[string]row, error) {
	n, err := c.seen(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string]row{}
	for _, key := range keys {
		if i, ok := c.keys[key]; ok && i < n {
			found[key] = c.rows[i].row
		}
	}
	return found, err
}

func (c *cluster) tip(ctx context.Context, log string) (tip, error) {
	x, err := c.extent(ctx, log)
	return x.tip, err
}

func (c *cluster) extent(ctx context.Context, _ string) (extent, error) {
	n, err := c.seen(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.whole(n), err
}

// whole returns the extent of the first n rows, and below the tip of the first
// n. The caller holds mu.
func (c *cluster) whole(n int) extent { return extent{c.below(n), c.below(min(n, c.trimmed))} }

func (c *cluster) below(n int) tip {
	if n == 0 {
		return tip{}
	}
	return c.rows[n-1].tip
}

// trim makes stubs of all that a majority has but the head.
func (c *cluster) trim() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trimmed = max(c.trimmed, c.committed-1)
}
