package hook

import (
	"strings"
	"sync"
	"time"
)

// Trouble is why a receiver does not get the events of a partition.
type Trouble struct {
	Since    time.Time // of the first request that it has not taken
	Attempts int       // these are
	Reason   string    // of the last one, at most [maxReason] bytes
	Paused   time.Time // it has said that it is gone, and is not asked before then; zero: it has not
}

// maxReason bounds the reason in a [Trouble], in bytes.
const maxReason = 200

// troubles are those of all partitions.
type troubles struct {
	mu sync.Mutex
	of map[int]Trouble // guarded by mu; by partition
}

// failed notes a request that was not taken.
func (t *troubles) failed(partition int, err error, paused time.Time) {
	reason := err.Error()
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = make(map[int]Trouble)
	}
	was, known := t.of[partition]
	if !known {
		was.Since = time.Now()
	}
	t.of[partition] = Trouble{Since: was.Since, Attempts: was.Attempts + 1, Reason: reason, Paused: paused}
}

// over notes that there is none, or that it is another server's.
func (t *troubles) over(partition int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, partition)
}

// Trouble returns the trouble that this server has with a partition, if it has any.
func (d *Deliverer) Trouble(partition int) (Trouble, bool) {
	d.troubles.mu.Lock()
	defer d.troubles.mu.Unlock()
	t, is := d.troubles.of[partition]
	return t, is
}

// Failing returns of how many partitions this server does not get rid of the
// events, and for how many of these the receiver has said that it is gone.
func (d *Deliverer) Failing() (failing, paused int) {
	d.troubles.mu.Lock()
	defer d.troubles.mu.Unlock()
	for _, t := range d.troubles.of {
		failing++
		if !t.Paused.IsZero() {
			paused++
		}
	}
	return failing, paused
}
