package node

import (
	"cmp"
	"slices"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// stays is what a device has had to do with a session: when it was in, and the
// alias by which it was, if it ever had one. Of a log that is not a session's
// it is zero.
type stays struct {
	spans  []session.Span
	alias  envelope.NodeID
	master bool // of a game: it is the master
}

func staysOf(m session.Member) stays { return stays{spans: m.Spans, alias: m.Alias} }

// clone returns a copy that changes by itself.
func (s *stays) clone() stays { return stays{slices.Clone(s.spans), s.alias, s.master} }

// open reports whether the device is in the session now, as far as is known.
func (s *stays) open() bool {
	last := len(s.spans) - 1
	return last >= 0 && s.spans[last].Until == 0
}

// clamp takes a position in the session's log back to the end of the last
// stay: a device that has left sees nothing after it.
func (s *stays) clamp(seq uint64) uint64 {
	if last := len(s.spans) - 1; last >= 0 && s.spans[last].Until != 0 {
		return min(seq, s.spans[last].Until)
	}
	return seq
}

// first returns the seq of the first entry of the session's log that the device
// sees; 0 when it is none.
func (s *stays) first() (seq uint64) {
	for _, span := range s.spans {
		if seq == 0 || span.First() < seq {
			seq = span.First()
		}
	}
	return seq
}

// at returns the stay into which an entry of the session's log falls, or else
// one that lets the device see it all the same.
func (s *stays) at(seq uint64) (session.Span, bool) {
	i := slices.IndexFunc(s.spans, func(span session.Span) bool { return span.Sees(seq) && span.From <= seq })
	if i < 0 {
		i = slices.IndexFunc(s.spans, func(span session.Span) bool { return span.Sees(seq) })
	}
	if i < 0 {
		return session.Span{}, false
	}
	return s.spans[i], true
}

// told reports whether the device is to be told that somebody joins or leaves,
// as it happens.
func (s *stays) told(env *envelope.Envelope) bool {
	if env.ShownFrom == 0 {
		return true
	}
	span, in := s.at(env.Seq)
	return in && span.From >= env.ShownFrom && span.From <= env.Seq
}

// within reports whether an entry of the session's log falls into a stay.
func (s *stays) within(seq uint64) bool {
	_, in := s.at(seq)
	return in
}

// own reports whether a message in a log is the device's own, by whatever name
// it was sent: who sends to a group or user has the acknowledgement and gets no
// copy. Who is put out of a session has none, and is told.
func (s *stays) own(log envelope.Address, env *envelope.Envelope, who envelope.Principal) bool {
	return log.Kind != envelope.KindNode && s.isOf(env, who) && !ousts(env)
}

// isOf reports whether an envelope has one of the device's names as its source.
func (s *stays) isOf(env *envelope.Envelope, who envelope.Principal) bool {
	return env.SrcNode == who.Node || env.SrcNode == s.alias && s.alias != ""
}

// ousts reports whether an entry ends a membership by another's hand, of which
// it says whose.
func ousts(env *envelope.Envelope) bool {
	return env.HasType && env.Type == envelope.TypeLeft && len(env.Body) > 0
}

// reader returns as whom a device that reads an entry of a log is known to
// others: by its alias in the alias's own log and in what was said while it was
// in the session by that, even if it is there by its name now.
func (s *stays) reader(log envelope.Address, seq uint64, who envelope.Principal) envelope.Principal {
	switch log.Kind {
	case envelope.KindNode:
		if envelope.NodeID(log.ID) != who.Node {
			return envelope.Principal{Node: envelope.NodeID(log.ID)}
		}
	case envelope.KindSession:
		if in, _ := s.at(seq); in.ByAlias {
			return envelope.Principal{Node: s.alias}
		}
	}
	return who
}

// still reports whether a device has the name yet by which it has read an entry
// of a log: in a session, whether it is there by that, or was last.
func (s *stays) still(log envelope.Address, reader, who envelope.Principal) bool {
	last := len(s.spans) - 1
	if log.Kind != envelope.KindSession || last < 0 {
		return true
	}
	return s.spans[last].ByAlias == (reader.Node != who.Node)
}

// observe learns from an entry of the session's log that is the device's own,
// and reports whether a stay begins there that was not known.
func (s *stays) observe(env *envelope.Envelope) (begins bool) {
	last := len(s.spans) - 1
	switch {
	case env.Type == envelope.TypeJoined && (last < 0 || s.spans[last].Until != 0 && env.Seq > s.spans[last].Until):
		s.spans = append(s.spans, session.Span{From: env.Seq, ByAlias: env.SrcNode == s.alias})
		return true
	case env.Type == envelope.TypeLeft && last >= 0 && s.spans[last].Until == 0 && env.Seq > s.spans[last].From:
		s.spans[last].Until = env.Seq
	}
	return false
}

// merged returns the stays that either side knows of. One that one of them
// knows to have ended has ended: what was read of the store may be older than
// the log.
func merged(a, b []session.Span) []session.Span {
	all := slices.Clone(a)
	for _, s := range b {
		i := slices.IndexFunc(all, func(known session.Span) bool { return known.From == s.From })
		if i < 0 {
			all = append(all, s)
			continue
		}
		all[i].Until = max(all[i].Until, s.Until)
		all[i].Since = max(all[i].Since, s.Since)
		all[i].Header = max(all[i].Header, s.Header)
	}
	slices.SortFunc(all, func(a, b session.Span) int { return cmp.Compare(a.From, b.From) })
	return all
}
