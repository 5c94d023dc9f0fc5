package client

import (
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	// markWithin is how long a read mark waits for others to go with it.
	markWithin = 100 * time.Millisecond
	// markAgain is how long after a reconnect those are told again that the
	// connection before may not have delivered.
	markAgain = time.Second
)

// marks keeps how far the user has read each log, on this device and as heard
// from others. It does no I/O. All of it is guarded by Client.mu.
type marks struct {
	logs map[envelope.Address]*mark
	due  time.Time // when the server is to be told; zero when it has been
}

type mark struct {
	own    uint64 // read on this device
	told   uint64 // of that, told the server on this connection
	anyone uint64 // read on any device
}

func newMarks() marks { return marks{logs: make(map[envelope.Address]*mark)} }

func (m *marks) at(log envelope.Address) *mark {
	at := m.logs[log]
	if at == nil {
		at = new(mark)
		m.logs[log] = at
	}
	return at
}

// set moves a mark forward. It reports whether the server is to be told of
// something, and was not to be before.
func (m *marks) set(log envelope.Address, seq uint64, now time.Time) bool {
	at := m.at(log)
	if seq <= at.own {
		return false
	}
	at.own = seq
	at.anyone = max(at.anyone, seq)
	if !m.due.IsZero() {
		return false
	}
	m.due = now.Add(markWithin)
	return true
}

// heard takes the server's word how far the user has read on any device, and
// returns what of it is news.
func (m *marks) heard(cursors map[envelope.Address]uint64) map[envelope.Address]uint64 {
	news := make(map[envelope.Address]uint64)
	for log, seq := range cursors {
		if at := m.at(log); seq > at.anyone {
			at.anyone = seq
			news[log] = seq
		}
	}
	return news
}

// frame returns what the server is to be told when that is due, else nil and
// when it will be (zero: nothing is to be told). With flush it is always due.
func (m *marks) frame(now time.Time, flush bool) (frame []byte, due time.Time) {
	if m.due.IsZero() || !flush && now.Before(m.due) {
		return nil, m.due
	}
	m.due = time.Time{}
	f := envelope.Control{Control: envelope.ControlRead, Cursors: make(map[string]uint64)}
	for log, at := range m.logs {
		if at.own > at.told {
			f.Cursors[log.String()] = at.own
			at.told = at.own
		}
	}
	if len(f.Cursors) == 0 {
		return nil, time.Time{}
	}
	return f.AppendJSON(nil), time.Time{}
}

// connected makes everything due to be told again: marks have no answer that
// would show which of them arrived.
func (m *marks) connected(now time.Time) {
	for _, at := range m.logs {
		at.told = 0
		if at.own > 0 && m.due.IsZero() {
			m.due = now.Add(markAgain)
		}
	}
}

// restart forgets a mark that a gap has left without a meaning: what follows
// begins before it.
func (m *marks) restart(log envelope.Address, floor uint64) {
	if at := m.logs[log]; at != nil && floor <= max(at.own, at.anyone) {
		delete(m.logs, log)
	}
}

// forget forgets everything: the server has another store.
func (m *marks) forget() { *m = newMarks() }
