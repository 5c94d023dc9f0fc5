package mongo

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// freshness is how long a lane believes that nobody has trimmed its log.
const freshness = 250 * time.Millisecond

// space is what a lane knows of the lower end of its log. What it does not know
// lets the log look fuller than it is, for a floor only rises; so the lane
// looks again before it refuses anything. The zero space is ready.
type space struct {
	below tip       // the last row that was trimmed, as far as known
	asked time.Time // when that was read; zero: before the last trim
}

// trimmed has the lane read where its log begins and ends before it relies on
// either.
func (p *position) trimmed() { p.known, p.space.asked = false, time.Time{} }

// fitting returns the first of some entries, up to the one for which the log
// has no room.
func (w *writing) fitting(entries []*entry) []*entry {
	last := w.last
	for i, e := range entries {
		if !e.exempt && w.quota.Exceeded(extent{last, w.space.below}.public(), e.weight) {
			return entries[:i]
		}
		last = last.next(e)
	}
	return entries
}

// refuse settles the first entry, for which there is no room, unless something
// speaks for it that is yet to be read: another server may have trimmed the
// log, and a repetition of what is stored needs no room.
func (w *writing) refuse(ctx context.Context) error {
	if time.Since(w.space.asked) > freshness {
		x, err := w.table.extent(ctx, w.log)
		if err == nil {
			w.at(x.tip)
			w.space = space{x.below, time.Now()}
		}
		return err
	}
	if !w.looked {
		_, err := w.look(ctx)
		return err
	}
	e := w.open()[0]
	e.settle(0)
	e.err = envelope.Errorf(envelope.Quota, "there is no room for it where it is to be stored")
	w.stats.quota.Add(1)
	w.deliverSettled()
	return nil
}
