package mongo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// cluster is a replica set as far as a log notices: rows are there before a
// majority has them, those that no majority has are lost when the primary
// changes, and commands are lost, answered late, or carried out when nobody
// waits for them any more. No test database can be made to do that on demand.
//
// It keeps one log and implements table.
type cluster struct {
	faults bool

	mu        sync.Mutex
	random    *rand.Rand
	term      int // rises with every change of the primary
	rows      []clusterRow
	committed int       // how many of the rows a majority has
	down      time.Time // until when nobody answers
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
	why := noClash
	for _, have := range c.rows {
		if have.key == r.key && (why == noClash || c.random.IntN(2) == 0) {
			why = keyClash
		} else if have.seq == r.seq && why == noClash {
			why = seqClash
		}
	}
	if why == seqClash && c.random.IntN(3) == 0 {
		why = keyClash
	}
	return why
}

// put appends a row, which must leave no hole.
func (c *cluster) put(r clusterRow) {
	if want := uint64(len(c.rows)) + 1; r.seq != want && c.broken == nil {
		c.broken = fmt.Errorf("%s was stored as %d when %d was the next", r.key, r.seq, want)
	}
	c.rows = append(c.rows, r)
}

// elect makes another server the primary.
func (c *cluster) elect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.term++
	c.rows = c.rows[:c.committed]
}

// seen returns the rows that a majority read shows: on a primary that was
// deposed and does not know it, those of some time ago.
func (c *cluster) seen(ctx context.Context) ([]clusterRow, error) {
	if err := c.reach(ctx); err != nil {
		return nil, err
	}
	if c.chance(20) {
		return nil, errLost
	}
	stale := c.chance(20)
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.committed
	if stale {
		n = c.random.IntN(n + 1)
	}
	return append([]clusterRow(nil), c.rows[:n]...), nil
}

func (c *cluster) find(ctx context.Context, _ string, keys []string) (map[string]row, error) {
	rows, err := c.seen(ctx)
	found := map[string]row{}
	for _, r := range rows {
		for _, key := range keys {
			if r.key == key {
				found[key] = r.row
			}
		}
	}
	return found, err
}

func (c *cluster) tip(ctx context.Context, _ string) (tip, error) {
	rows, err := c.seen(ctx)
	if len(rows) == 0 {
		return tip{}, err
	}
	return rows[len(rows)-1].tip, err
}

func (c *cluster) extent(ctx context.Context, log string) (extent, error) {
	last, err := c.tip(ctx, log)
	return extent{tip: last}, err
}
