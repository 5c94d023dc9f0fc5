package session

import (
	"strings"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// maxRemembered bounds the memberships remembered. One takes some 130 bytes, and its names.
const maxRemembered = 300_000

// remembered are the memberships of those who may write: under the device, and
// under the alias if it is in by that. There may be one for each session of each
// device that is connected, so one is small; when there are too many, any other
// makes room, because a list in the order of use would take twice as much.
type remembered struct {
	began time.Time // since when times are counted
	rows  map[memberKey]memory
}

type memberKey struct {
	session envelope.SessionID
	node    envelope.NodeID
}

type memory struct {
	read  time.Duration // when the store was asked, or written to
	since uint64        // seq of the entry that let it in
	alias *named        // nil: it is in by its name
	game  bool
}

func newRemembered() remembered {
	return remembered{time.Now(), make(map[memberKey]memory)}
}

// put remembers a membership. Its names may be parts of a request, which is not
// to stay in memory for them.
func (r *remembered) put(id envelope.SessionID, of standing, read time.Time) {
	id = envelope.SessionID(strings.Clone(string(id)))
	of.device = envelope.NodeID(strings.Clone(string(of.device)))
	m := memory{read: read.Sub(r.began), since: of.since, game: of.game}
	if of.self != of.device {
		of.self = envelope.NodeID(strings.Clone(string(of.self)))
		names := of.named // alone: the rest is not to stay
		m.alias = &names
		r.set(memberKey{id, of.self}, m)
	}
	r.set(memberKey{id, of.device}, m)
}

func (r *remembered) set(key memberKey, m memory) {
	if _, known := r.rows[key]; !known && len(r.rows) >= maxRemembered {
		for any := range r.rows {
			r.forget(any.session, any.node)
			break
		}
	}
	r.rows[key] = m
}

func (r *remembered) get(id envelope.SessionID, node envelope.NodeID) (of standing, read time.Time, ok bool) {
	m, ok := r.rows[memberKey{id, node}]
	of = standing{named{self: node, device: node}, true, m.game, m.since}
	if m.alias != nil {
		of.named = *m.alias
	}
	return of, r.began.Add(m.read), ok
}

// since returns the seq of the entry that let in whose membership is remembered;
// 0 when it is not.
func (r *remembered) since(id envelope.SessionID, node envelope.NodeID) uint64 {
	return r.rows[memberKey{id, node}].since
}

// forget drops a membership under both names.
func (r *remembered) forget(id envelope.SessionID, node envelope.NodeID) {
	if m := r.rows[memberKey{id, node}]; m.alias != nil {
		delete(r.rows, memberKey{id, m.alias.self})
		delete(r.rows, memberKey{id, m.alias.device})
	}
	delete(r.rows, memberKey{id, node})
}
