package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/inbox"
)

// modelLog is one log of the model.
type modelLog struct {
	quota     inbox.Quota
	entries   []envelope.Envelope // all that there ever were
	trimmed   int                 // how many of them have been removed
	forgotten map[uint64]bool     // by seq
}

// log returns a log of the model, empty when it is new.
func (m *model) log(log envelope.Address) *modelLog {
	if m.logs[log] == nil {
		m.logs[log] = &modelLog{quota: Quotas()[log.Kind], forgotten: map[uint64]bool{}}
	}
	return m.logs[log]
}

func (l *modelLog) left() []envelope.Envelope { return l.entries[l.trimmed:] }

// find returns the message with that id, or nil.
func (l *modelLog) find(src envelope.NodeID, id string) *envelope.Envelope {
	for i := range l.entries {
		e := &l.entries[i]
		if id != "" && e.ID == id && e.SrcNode == src && !l.forgotten[e.Seq] {
			return e
		}
	}
	return nil
}

func (l *modelLog) append(env *envelope.Envelope) (uint64, envelope.Code) {
	if was := l.find(env.SrcNode, env.ID); was != nil {
		if was.Digest() != env.Digest() {
			return 0, envelope.Conflict
		}
		return was.Seq, ""
	}
	if !inbox.Exempt(env) && l.quota.Exceeded(extentOf(l.left()), inbox.Size(env)) {
		return 0, envelope.Quota
	}
	seq := uint64(len(l.entries) + 1)
	l.entries = append(l.entries, stored(env, seq))
	return seq, ""
}

func (l *modelLog) trim(floor int, forget int64) {
	l.trimmed = max(l.trimmed, min(floor, len(l.entries))-1)
	for i := range l.entries[:l.trimmed] {
		if e := &l.entries[i]; e.Timestamp < forget {
			l.forgotten[e.Seq] = true
		}
	}
}

func (w *walk) message() *envelope.Envelope {
	id := ""
	if w.rnd.IntN(5) > 0 {
		id = fmt.Sprint("m", w.rnd.IntN(40))
	}
	env := message(w.node(), id, one(w, "hi", "hi", "hi", "ho"))
	w.clock += int64(w.rnd.IntN(1000)) // the entries of a log are in the order of time
	env.Timestamp += w.clock
	switch w.rnd.IntN(6) {
	case 0:
		env.Edits = 1 + w.number(30)
	case 1:
		env.Deletes = 1 + w.number(30)
	}
	return env
}

func (w *walk) append() { w.appendN(1) }
func (w *walk) burst()  { w.appendN(1 + w.rnd.IntN(6)) }

func (w *walk) appendN(n int) {
	log := w.log()
	var calls []*call
	for range n {
		calls = append(calls, start(w.store, log, w.message()))
	}
	for _, c := range calls {
		seq, err := c.wait()
		wantSeq, wantCode := w.model.log(log).append(c.env)
		w.equal("code", envelope.CodeOf(err), wantCode)
		if err == nil {
			w.equal("seq", seq, wantSeq)
		}
	}
}

func (w *walk) readPage() {
	log := w.log()
	l := w.model.log(log)
	after, limit := w.rnd.IntN(len(l.entries)+3), 1+w.rnd.IntN(20)
	page, err := w.store.Read(w.Context(), log, uint64(after), limit, 1<<20)
	w.noError(err)
	rest := l.entries[min(max(after, l.trimmed), len(l.entries)):]
	w.sameLog(page, rest[:min(limit, len(rest))])
}

func (w *walk) revisionsOfOne() {
	log := w.log()
	l := w.model.log(log)
	first := 1 + w.number(30)
	last := first + w.number(30)
	var want []inbox.Revision
	for i := range l.entries {
		if e := &l.entries[i]; e.Revises() >= first && e.Revises() <= last && i >= l.trimmed {
			want = append(want, inbox.Revision{Of: e.Revises(), Seq: e.Seq, Deletes: e.Deletes != 0})
		}
	}
	slices.SortStableFunc(want, func(a, b inbox.Revision) int { return cmp.Compare(a.Of, b.Of) })
	w.equal("revisions", w.suite.revisionsOf(w.store, log, first, last), want)
}

func (w *walk) heads() {
	want := map[envelope.Address]uint64{}
	for _, log := range w.nonEmpty() {
		want[log] = uint64(len(w.model.log(log).entries))
	}
	got, err := w.store.Heads(w.Context(), fromStart(w.addresses()...))
	w.noError(err)
	w.equal("heads", got, want)
}

// nonEmpty returns the logs that have entries.
func (w *walk) nonEmpty() []envelope.Address {
	var logs []envelope.Address
	for _, log := range w.addresses() {
		if len(w.model.log(log).entries) > 0 {
			logs = append(logs, log)
		}
	}
	return logs
}

func (w *walk) allLogs() {
	w.equal("logs", sorted(w.suite.allLogs(1+w.rnd.IntN(4))), sorted(w.nonEmpty()))
}

func (w *walk) trim() {
	log := w.log()
	l := w.model.log(log)
	floor := w.rnd.IntN(len(l.entries) + 3)
	forget := message(alice, "", "").Timestamp + w.clock - int64(w.rnd.IntN(30_000))
	l.trim(floor, forget)
	w.noError(w.store.Trim(w.Context(), log, uint64(floor), time.UnixMilli(forget)))
}

func (w *walk) extent() {
	for _, log := range w.addresses() {
		got, err := w.store.Extent(w.Context(), log)
		w.noError(err)
		w.equal("extent", got, extentOf(w.model.log(log).left()))
	}
}

func (w *walk) findOne() {
	log, env := w.log(), w.message()
	var want inbox.Found
	if was := w.model.log(log).find(env.SrcNode, env.ID); was != nil {
		want = inbox.Found{Seq: was.Seq, Timestamp: was.Timestamp}
	}
	got, err := w.store.Find(w.Context(), log, env.SrcNode, env.ID)
	w.noError(err)
	if got.Timestamp == 0 && want.Seq > 0 && want.Seq <= uint64(w.model.log(log).trimmed) {
		want.Timestamp = 0 // only its number is left
	}
	w.equal("what is known of a message", got, want)
}

func (w *walk) readersOf() {
	log := w.log()
	want := values(w.model.cursors, func(c inbox.Cursor) bool { return c.Log == log })
	got, err := w.store.Readers(w.Context(), log, 100)
	w.noError(err)
	w.equal("readers", sorted(got), sorted(want))
}

func (w *walk) putSighting() {
	sight := graph.Sighting{Addr: w.log(), At: 1 + int64(w.number(100))}
	if sight.At > w.model.sightings[sight.Addr].At {
		w.model.sightings[sight.Addr] = sight
	}
	w.noError(w.store.PutSightings(w.Context(), []graph.Sighting{sight}))
}

func (w *walk) allSightings() {
	w.sightings(values(w.model.sightings, all), w.addresses()...)
}
