package mongo

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// maxStreak is after how many inserts in a row a lane lets others in.
	maxStreak = 32
	// rivalry is how long a lane that was overtaken expects to share its log.
	rivalry = time.Second

	minTook = 500 * time.Microsecond
	maxTook = 20 * time.Millisecond
)

// tempo keeps the servers that write one log from starving each other.
//
// Whoever wrote last knows the head and can insert again at once; whoever was
// overtaken must read the head first and would come too late for ever. So a
// lane that has inserted several times in a row pauses for long enough that
// another one gets through: rarely as long as it seems to be alone, after each
// insert when it knows that it is not. What arrives meanwhile makes its next
// batch larger. The zero tempo is ready.
type tempo struct {
	took   time.Duration // of an insert, smoothed
	streak int           // inserts since others last had their chance
	ended  time.Time     // of the last insert
	rival  time.Time     // when another server was last seen to write this log
}

// rest returns how long to let others in before the next insert.
func (t *tempo) rest(now time.Time) time.Duration {
	if now.Sub(t.ended) > 4*t.pace() {
		t.streak = 0
		return 0
	}
	limit := maxStreak
	if now.Sub(t.rival) < rivalry {
		limit = 1
	}
	if t.streak < limit {
		return 0
	}
	t.streak = 0
	// The other one may just have read the old head: then it fails, waits for
	// its backoff, reads and inserts. Most pauses are long enough for that.
	return t.pace() + rand.N(2*t.pace())
}

// wrote notes an insert that went through.
func (t *tempo) wrote(began, ended time.Time) {
	took := min(max(ended.Sub(began), minTook), maxTook)
	if t.took == 0 {
		t.took = took
	}
	t.took += (took - t.took) / 8
	t.streak++
	t.ended = ended
}

// overtaken notes that another server was faster.
func (t *tempo) overtaken(now time.Time) {
	t.rival = now
	t.streak = 0
}

// backoff returns how long to wait after having been overtaken. It does not
// grow: one that has waited for long must not come less often.
func (t *tempo) backoff() time.Duration { return rand.N(t.pace()/2 + 1) }

func (t *tempo) pace() time.Duration { return max(t.took, minTook) }

// backoff returns how long to wait after the n-th failure in a row of the
// database, n ≥ 1.
func backoff(n int) time.Duration {
	limit := 10 * time.Millisecond << min(n, 6)
	return limit/4 + rand.N(limit)
}

// sleep waits for d, or less when ctx ends, and then returns its cause.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
