package mongo

import (
	"context"
	"math"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// rowsAtOnce is how many rows one command of Trim or Logs has to do with.
const rowsAtOnce = 500

// forgetAfter is how old an entry must be at least to be forgotten: a server
// that still counted from a row before it would store another one under its seq.
const forgetAfter = time.Hour

// Extent implements [inbox.Store].
func (s *Store) Extent(ctx context.Context, log envelope.Address) (found inbox.Extent, err error) {
	name := log.String()
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		x, err := s.messages.extent(ctx, name)
		found = x.public()
		return err
	})
	return found, err
}

// extent implements table: three steps in indexes.
func (m messages) extent(ctx context.Context, log string) (extent, error) {
	first, err := m.floor(ctx, log)
	if err != nil || first.Seq == 0 {
		return extent{}, err
	}
	last, err := m.tip(ctx, log)
	// The row below the floor may be forgotten.
	return extent{tip: last, below: tip{uint64(first.Seq) - 1, first.Total - first.Size}}, err
}

// floor returns the first row that is no stub, without its envelope; the zero
// row if the log is empty.
func (m messages) floor(ctx context.Context, log string) (messageRow, error) {
	for {
		below, err := m.lastStub(ctx, log)
		if err != nil {
			return messageRow{}, err
		}
		behind := bson.D{equals("l", log), {Key: "s", Value: bson.D{{Key: "$gt", Value: below}}}}
		first, err := m.outermost(ctx, behind, 1, "s", "b", "z", "x")
		// It may have been trimmed in between.
		if err != nil || !first.Stub {
			return first, err
		}
	}
}

// lastStub returns the seq of the highest row that was trimmed, 0 if there is none.
func (m messages) lastStub(ctx context.Context, log string) (int64, error) {
	r, err := m.outermost(ctx, bson.D{equals("l", log), equals("x", true)}, -1, "s")
	return r.Seq, err
}

// Trim implements [inbox.Store]. It makes stubs from the lower end upwards, so
// that repeating it, or another server doing the same, changes nothing. Nothing
// younger than an hour is forgotten.
func (s *Store) Trim(ctx context.Context, log envelope.Address, floor uint64, forget time.Time) error {
	name := log.String()
	var next, end int64
	err := s.query(ctx, func(ctx context.Context, _ bool) (err error) {
		next, end, err = s.messages.trimmable(ctx, name, int64(min(floor, math.MaxInt64)))
		return err
	})
	if err == nil && next < end {
		defer s.appender.trimmed(log)
	}
	for err == nil && next < end {
		upTo := min(next+rowsAtOnce, end)
		err = s.change(ctx, func(ctx context.Context, _ bool) error { return s.messages.strip(ctx, name, next, upTo) })
		next = upTo
	}
	if err != nil {
		return err
	}
	if oldest := time.Now().Add(-forgetAfter); forget.After(oldest) {
		forget = oldest
	}
	return s.forget(ctx, name, forget)
}

// trimmable returns the range of seqs, its end not included, that has to become stubs.
func (m messages) trimmable(ctx context.Context, log string, floor int64) (first, end int64, err error) {
	last, err := m.tip(ctx, log)
	if err != nil {
		return 0, 0, err
	}
	end = min(floor, int64(last.seq))
	lowest, err := m.outermost(ctx, bson.D{equals("l", log)}, 1, "s", "x")
	if err != nil || !lowest.Stub {
		return lowest.Seq, end, err
	}
	below, err := m.lastStub(ctx, log)
	// A batch may have been left half done, in any order.
	return max(lowest.Seq, below-rowsAtOnce), end, err
}

// strip makes stubs of the rows from first up to end, which is not included.
func (m messages) strip(ctx context.Context, log string, first, end int64) error {
	_, err := m.UpdateMany(ctx,
		bson.D{
			equals("l", log),
			{Key: "s", Value: bson.D{{Key: "$gte", Value: first}, {Key: "$lt", Value: end}}},
			{Key: "x", Value: bson.D{{Key: "$ne", Value: true}}},
		},
		bson.D{
			{Key: "$set", Value: bson.D{{Key: "x", Value: true}}},
			{Key: "$unset", Value: bson.D{{Key: "e", Value: ""}, {Key: "r", Value: ""}, {Key: "w", Value: ""}}},
		})
	return err
}

// forget deletes stubs of entries from before a time, from the lower end
// upwards until there are only younger ones.
func (s *Store) forget(ctx context.Context, log string, before time.Time) error {
	for after, more := int64(0), true; more; {
		from := after
		err := s.change(ctx, func(ctx context.Context, _ bool) (err error) {
			after, more, err = s.messages.forget(ctx, log, from, before)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// forget deletes what is old of the next batch of stubs. It returns where that
// batch ends and whether there may be more.
func (m messages) forget(ctx context.Context, log string, after int64, before time.Time) (end int64, more bool, err error) {
	stubs, err := all[messageRow](ctx, m.Collection,
		bson.D{equals("l", log), equals("x", true), {Key: "s", Value: bson.D{{Key: "$gt", Value: after}}}},
		options.Find().SetSort(bson.D{{Key: "s", Value: 1}}).SetLimit(rowsAtOnce).SetProjection(only("s", "t")))
	if err != nil {
		return after, false, err
	}
	var old bson.A
	for _, r := range stubs {
		if time.UnixMilli(r.Time).Before(before) {
			old = append(old, r.Seq)
		}
		after = r.Seq
	}
	if len(old) == 0 {
		return after, false, nil
	}
	_, err = m.DeleteMany(ctx, bson.D{equals("l", log), equals("x", true), {Key: "s", Value: bson.D{{Key: "$in", Value: old}}}})
	return after, len(stubs) == rowsAtOnce, err
}

// Logs implements [inbox.Store]. It walks the index (log, seq): a query finds
// many short logs, or jumps over one that is long.
func (s *Store) Logs(ctx context.Context, after envelope.Address, limit int) ([]envelope.Address, error) {
	var logs []envelope.Address
	last := ""
	if !after.IsZero() {
		last = after.String()
	}
	for len(logs) < limit {
		var rows []messageRow
		err := s.query(ctx, func(ctx context.Context, _ bool) (err error) {
			rows, err = all[messageRow](ctx, s.messages.Collection,
				bson.D{{Key: "l", Value: bson.D{{Key: "$gt", Value: last}}}},
				options.Find().SetSort(bson.D{{Key: "l", Value: 1}, {Key: "s", Value: 1}}).SetLimit(rowsAtOnce).SetProjection(only("l")))
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if r.Log == last || len(logs) == limit {
				continue
			}
			last = r.Log
			log, err := envelope.ParseStored(last)
			if err != nil {
				return nil, damaged("log", err)
			}
			logs = append(logs, log)
		}
		if len(rows) < rowsAtOnce {
			break
		}
	}
	return logs, nil
}
