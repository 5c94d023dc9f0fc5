package mongo

import (
	"bytes"
	"context"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// table is the collection of messages as a lane sees it. Whatever a method
// returns has been committed by a majority; an error means that the outcome is
// unknown.
type table interface {
	// insert stores entries right behind last, in order, and stops at the
	// first that clashes with a row. It returns how many it has stored, and why
	// not all.
	insert(ctx context.Context, log string, last tip, entries []*entry) (int, clash, error)
	// find returns the rows with one of the keys, by key.
	find(ctx context.Context, log string, keys []string) (map[string]row, error)
	// tip returns where the log ends.
	tip(ctx context.Context, log string) (tip, error)
	// extent returns where the log begins and ends.
	extent(ctx context.Context, log string) (extent, error)
}

// tip is the last row of a log, or of what was there at a time; the zero tip
// is of an empty log.
type tip struct {
	seq   uint64
	total int64 // sizes of all entries that there ever were, up to that one
}

// next returns the tip once e is stored.
func (t tip) next(e *entry) tip { return tip{t.seq + 1, t.total + e.weight} }

// extent is what there is of a log. The zero extent is an empty log.
type extent struct {
	tip
	below tip // the last row that was trimmed
}

func (x extent) public() inbox.Extent {
	return inbox.Extent{Floor: x.below.seq + 1, Head: x.seq, Bytes: x.total - x.below.total}
}

// clash is why an insert stopped.
type clash uint8

const (
	noClash  clash = iota
	seqClash       // another row has the seq
	keyClash       // another row has the key, or perhaps the seq: the server did not say
)

// row is what identifies a stored message.
type row struct {
	tip
	digest []byte
}

// entry is one message on its way into a log.
type entry struct {
	// Static.
	key     string // tells it from every other message of the log
	digest  []byte // nil for a message without an id
	binary  []byte // of the envelope
	time    int64  // the envelope's Timestamp
	revises int64  // the seq that it edits, or deletes
	deletes bool
	weight  int64 // what it counts for in the log, see inbox.Size
	exempt  bool  // from quotas, see inbox.Exempt
	done    func(seq uint64, err error)

	// Only the lane's goroutine.
	settled bool
	seq     uint64
	err     error
}

// entryOverhead is what an entry costs besides its strings.
const entryOverhead = 256

func (e *entry) size() int { return len(e.key) + len(e.binary) + entryOverhead }

func (e *entry) settle(seq uint64) { e.settled, e.seq = true, seq }

// match settles e by the row that has its key.
func (e *entry) match(r row) {
	e.settle(r.seq)
	if !bytes.Equal(e.digest, r.digest) {
		e.seq, e.err = 0, envelope.Errorf(envelope.Conflict, "another message with that id is stored already")
	}
}

// position is what is worth remembering of a log between two batches.
type position struct {
	last  tip       // committed by a majority; others may have written behind it
	seen  time.Time // when last was read or written
	known bool      // last is worth trying
	space space
	tempo tempo
}

// trust is how long a lane believes that, if others have written behind its
// last row, what they wrote is still there and clashes. Nothing is forgotten
// before it is much older than that, see forgetAfter.
const trust = 15 * time.Minute

func (p *position) at(last tip) { p.last, p.seen = last, time.Now() }

// old reports whether last must be read again. A machine that was suspended
// may know it from the wall clock only.
func (p *position) old() bool {
	now := time.Now()
	return max(now.Sub(p.seen), now.Round(0).Sub(p.seen.Round(0))) > trust
}

// writing is one batch on its way into a log. It has one goroutine.
//
// It numbers and inserts what is not yet settled, again and again. Each entry
// has a unique key, so that it is stored at most once however often an insert
// whose outcome is unknown is repeated, or is carried out late. An insert is
// ordered and starts right behind a head that a majority has committed, so
// that neither a repeated nor a late one makes a hole or puts a later entry
// before an earlier one.
type writing struct {
	table   table
	stats   *counters
	log     string
	quota   inbox.Quota
	deliver func([]*entry) // calls their dones, in order

	*position
	entries  []*entry // not yet delivered, in order
	answered bool     // by the database, when it was last asked
	tried    bool     // to insert some of them
	doubt    bool     // some may be stored already
	looked   bool     // none of those not settled was stored when this batch last changed the log
}

// run returns once all entries are delivered, or an error when the database
// did not let it within patience. What is left in entries then may be stored
// or not.
func (w *writing) run(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	failures := 0
	for {
		progress, err := w.round(ctx, patience/2)
		w.answered = err == nil || outOfSpace(err)
		if len(w.entries) == 0 {
			return nil
		}
		var wait time.Duration
		switch {
		case err != nil:
			failures++
			w.known, w.doubt = false, w.tried
			w.stats.unknown.Add(1)
			if w.answered {
				return err
			}
			wait = backoff(failures)
		case !progress:
			wait = w.tempo.backoff()
		}
		if stop := sleep(ctx, wait); stop != nil {
			w.known = false
			if err == nil {
				err = stop
			}
			return err
		}
	}
}

// round tries once. Without progress the next try is better made a little later.
func (w *writing) round(ctx context.Context, timeout time.Duration) (progress bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if w.old() {
		w.known = false
	}
	if w.doubt {
		clash := w.known
		found, err := w.look(ctx)
		if err != nil {
			return false, err
		}
		if found == 0 && clash {
			// So it was the seq that clashed, or a row that no majority has yet.
			w.lost()
			return false, nil
		}
	}
	open := w.open()
	if len(open) == 0 {
		return true, nil
	}
	if !w.known {
		last, err := w.table.tip(ctx, w.log)
		if err != nil {
			return false, err
		}
		w.at(last)
		w.known = true
	}
	if open = w.fitting(open); len(open) == 0 {
		return true, w.refuse(ctx)
	}

	w.tried, w.looked = true, false
	began := time.Now()
	stored, clash, err := w.table.insert(ctx, w.log, w.last, open)
	if err != nil {
		return false, err
	}
	for _, e := range open[:stored] {
		w.at(w.last.next(e))
		e.settle(w.last.seq)
	}
	switch clash {
	case noClash:
		w.tempo.wrote(began, time.Now())
	case seqClash:
		w.lost()
	case keyClash:
		w.doubt = true
	}
	w.deliverSettled()
	return stored > 0 || clash != seqClash, nil
}

// look settles what is stored already, and returns how many rows it found.
func (w *writing) look(ctx context.Context) (int, error) {
	open := w.open()
	keys := make([]string, len(open))
	for i, e := range open {
		keys[i] = e.key
	}
	rows, err := w.table.find(ctx, w.log, keys)
	if err != nil {
		return 0, err
	}
	w.doubt, w.looked = false, true
	for _, e := range open {
		if r, ok := rows[e.key]; ok {
			e.match(r)
			if r.seq > w.last.seq {
				w.at(r.tip)
			}
		}
	}
	w.deliverSettled()
	return len(rows), nil
}

func (w *writing) lost() {
	w.known = false
	w.tempo.overtaken(time.Now())
	w.stats.overtaken.Add(1)
}

// open returns the entries that are not settled.
func (w *writing) open() []*entry {
	open := make([]*entry, 0, len(w.entries))
	for _, e := range w.entries {
		if !e.settled {
			open = append(open, e)
		}
	}
	return open
}

// deliverSettled delivers the settled entries that no unsettled one precedes.
func (w *writing) deliverSettled() {
	n := 0
	for n < len(w.entries) && w.entries[n].settled {
		n++
	}
	if n > 0 {
		w.deliver(w.entries[:n])
		w.entries = w.entries[n:]
	}
}
