package client

import (
	"math/rand/v2"
	"time"
)

const (
	backoffBase = 100 * time.Millisecond
	backoffCap  = 15 * time.Second
	// stable is how long a connection must have lasted for the next back-off
	// to start from the beginning, so that a server which accepts and closes
	// at once is not hammered.
	stable = 5 * time.Second
)

// backoff is exponential with full jitter: the n-th wait is anything between
// nothing and min(cap, base·2ⁿ), so that clients cut off together do not come
// back together (Brooker, "Exponential Backoff And Jitter", AWS Architecture
// Blog, 2015).
type backoff struct {
	rand    *rand.Rand
	attempt int
}

func (b *backoff) next() time.Duration {
	ceiling := backoffCap
	if b.attempt < 10 {
		ceiling = min(backoffCap, backoffBase<<b.attempt)
	}
	b.attempt++
	return time.Duration(b.rand.Int64N(int64(ceiling) + 1))
}

func (b *backoff) reset() { b.attempt = 0 }
