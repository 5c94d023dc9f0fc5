package session

import (
	"slices"

	"github.com/allsparkrt/allspark/envelope"
)

// The highest values of settings.
const (
	maxMembers     = 100_000
	maxNotifyLast  = 1_000
	maxKeepCount   = 100_000
	maxKeepSeconds = 30 * 24 * 3600
)

// The names of settings on the wire, in the order of their values.
var (
	kindNames      = []string{"group", "game", "topic"}
	successorNames = []string{"members", "moderators", "nobody"}
	listNames      = []string{"members", "moderators"}
	joinerNames    = []string{"joining", "header"}
	publisherNames = []string{"members", "owner"}
)

// Defaults are the settings of a session for which none were given.
var Defaults = Settings{AnyoneCanJoin: true}

// With returns the settings as a change leaves them. The error has
// [envelope.BadRequest].
func (s Settings) With(change envelope.Settings) (Settings, error) {
	set(&s.AnyoneCanJoin, change.AnyoneCanJoin)
	set(&s.MemberLimit, change.MemberLimit)
	set(&s.NotifyLast, change.NotifyLast)
	set(&s.KeepCount, change.KeepCount)
	set(&s.KeepSeconds, change.KeepSeconds)
	if change.Anonymous != nil {
		s.NamesOnly = !*change.Anonymous
	}
	kind, successors, hidden, header, owner := int(s.Kind), int(s.Successors), index(s.MembersHidden), index(s.FromHeader), index(s.OwnerOnly)
	for _, named := range []struct {
		value *int
		given *string
		names []string
		what  string
	}{
		{&kind, change.Kind, kindNames, "kind"},
		{&successors, change.Successors, successorNames, "successors"},
		{&hidden, change.MemberList, listNames, "member_list"},
		{&header, change.LateJoiners, joinerNames, "late_joiners"},
		{&owner, change.Publishers, publisherNames, "publishers"},
	} {
		if named.given == nil {
			continue
		}
		i := slices.Index(named.names, *named.given)
		if i < 0 {
			return s, envelope.Errorf(envelope.BadRequest, "%s is one of %v", named.what, named.names)
		}
		*named.value = i
	}
	s.Kind, s.Successors, s.MembersHidden, s.FromHeader = Kind(kind), Successors(successors), hidden == 1, header == 1
	s.OwnerOnly = owner == 1
	return s, s.check()
}

// Wire returns all settings as clients see them.
func (s Settings) Wire() envelope.Settings {
	w := envelope.Settings{
		Kind: &kindNames[s.Kind], AnyoneCanJoin: &s.AnyoneCanJoin, MemberLimit: &s.MemberLimit,
		MemberList: &listNames[index(s.MembersHidden)], Anonymous: new(!s.NamesOnly),
		NotifyLast: &s.NotifyLast, LateJoiners: &joinerNames[index(s.FromHeader)],
	}
	switch s.Kind {
	case Game:
		w.Successors = &successorNames[s.Successors]
	case Topic:
		w.KeepCount, w.KeepSeconds, w.Publishers = &s.KeepCount, &s.KeepSeconds, &publisherNames[index(s.OwnerOnly)]
	}
	return w
}

func (s Settings) check() error {
	for _, number := range []struct {
		is, most int
		name     string
	}{
		{s.MemberLimit, maxMembers, "member_limit"},
		{s.NotifyLast, maxNotifyLast, "notify_only_last_few_users"},
		{s.KeepCount, maxKeepCount, "keep_count"},
		{s.KeepSeconds, maxKeepSeconds, "keep_seconds"},
	} {
		if number.is < 0 || number.is > number.most {
			return envelope.Errorf(envelope.BadRequest, "%s is a number up to %d; 0 means no limit", number.name, number.most)
		}
	}
	switch {
	case s.Kind != Game && s.Successors != AnyMember:
		return envelope.Errorf(envelope.BadRequest, "only a game has successors")
	case s.Kind != Topic && (s.KeepCount > 0 || s.KeepSeconds > 0):
		return envelope.Errorf(envelope.BadRequest, "only a topic has keep_count and keep_seconds; how long others are kept is configured")
	case s.Kind != Topic && s.OwnerOnly:
		return envelope.Errorf(envelope.BadRequest, "only a topic has publishers; members of others have roles")
	case s.Kind == Topic && (!s.AnyoneCanJoin || s.MemberLimit > 0):
		return envelope.Errorf(envelope.BadRequest, "anyone may follow a topic")
	case s.Kind == Topic && s.FromHeader:
		return envelope.Errorf(envelope.BadRequest, "who follows a topic says from where: from the header's seq, if it likes")
	}
	return nil
}

func set[T any](value, to *T) {
	if to != nil {
		*value = *to
	}
}

func index(is bool) int {
	if is {
		return 1
	}
	return 0
}
