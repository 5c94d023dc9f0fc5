package session

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/allsparkrt/allspark/envelope"
)

// AppendFunc appends an entry to a log and returns its seq; a repeat with the
// same source and id returns the first one.
type AppendFunc func(ctx context.Context, log envelope.Address, env *envelope.Envelope) (uint64, error)

// A membership is trusted for this long after it was read, unless the server
// hears sooner that it has changed: by the log of a session that it follows,
// see [Sessions.Observe], or from another server, see [Sessions.Forget].
const trust = 2 * time.Second

// maxCached bounds the memberships remembered.
const maxCached = 100_000

// maxSpans bounds the stays remembered of one membership. Entries of older
// stays that a device never fetched are lost to it.
const maxSpans = 64

// attempts bounds how often an operation starts over because somebody else
// changed the session or membership first; the pauses before grow up to maxPause.
const (
	attempts = 30
	maxPause = 250 * time.Millisecond
)

// Sessions decides who belongs to which session. Its methods are safe for
// concurrent use; their errors are [*envelope.Error], and those about a session
// that does not exist and one that the caller may not see are the same.
type Sessions struct {
	store   Store
	append  AppendFunc
	changed func(envelope.SessionID, envelope.NodeID)

	mu      sync.Mutex
	cached  *simplelru.LRU[memberKey, standing]        // guarded by mu
	rulings *simplelru.LRU[envelope.SessionID, ruling] // guarded by mu; of games
	news    uint64                                     // guarded by mu; rises when any of these is forgotten
}

type memberKey struct {
	session envelope.SessionID
	node    envelope.NodeID
}

// standing is what is remembered of who is in a session: under the device, and
// under the alias if it is in by that.
type standing struct {
	until  time.Time       // when this is not trusted any more
	self   envelope.NodeID // the name by which it is in
	device envelope.NodeID
	hidden bool // whose alias it is is not to be known
	writes bool // it may send
	game   bool // the session is one
}

// New returns Sessions over a store whose entries go through append.
// After a membership has changed, or the master of a game with no device named,
// changed is told, so that other servers can be (see [Sessions.Forget]); it must not block, and may be nil.
func New(store Store, append AppendFunc, changed func(envelope.SessionID, envelope.NodeID)) *Sessions {
	cached, err := simplelru.NewLRU[memberKey, standing](maxCached, nil)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	rulings, err := simplelru.NewLRU[envelope.SessionID, ruling](maxCached, nil)
	if err != nil {
		panic(err) // likewise
	}
	return &Sessions{store: store, append: append, changed: changed, cached: cached, rulings: rulings}
}

// Create makes a session with the caller as owner and first member. Repeated
// by its owner it returns the session that is there; for others Conflict.
func (s *Sessions) Create(ctx context.Context, who envelope.Principal, id envelope.SessionID, settings Settings, as As) (Session, error) {
	made, err := s.found(ctx, who, id, settings, as, false, "")
	if err == nil {
		_, err = s.Join(ctx, who, made.ID, as)
	}
	return made, err
}

// CreateEmpty is Create without a first member. Only the app may.
func (s *Sessions) CreateEmpty(ctx context.Context, who envelope.Principal, id envelope.SessionID, settings Settings, _ As) (Session, error) {
	if !who.App {
		return Session{}, errForbidden
	}
	return s.found(ctx, who, id, settings, As{}, true, "")
}

func (s *Sessions) found(ctx context.Context, who envelope.Principal, id envelope.SessionID, settings Settings, as As, empty bool, master envelope.NodeID) (Session, error) {
	if id == "" {
		id = envelope.SessionID(rand.Text())
	} else if !envelope.ValidID(string(id)) {
		return Session{}, errNoID
	}
	if err := settings.check(); err != nil {
		return Session{}, err
	}
	if id.IsTopic() != (settings.Kind == Topic) {
		return Session{}, envelope.Errorf(envelope.BadRequest, "the ids of topics begin with %q, and no others do", envelope.TopicPrefix)
	}
	owner, err := s.founder(ctx, who, id, settings, as)
	if err != nil {
		return Session{}, err
	}
	made := Session{
		ID: id, Owner: owner, Settings: settings,
		Created: time.Now().UnixMilli(), Token: rand.Text(), Version: 1,
	}
	switch {
	case settings.Kind != Game:
	case master != "":
		made.Master = master
	case !empty:
		made.Master, made.MasterTerm = owner, 1
	}
	if err := s.store.Create(ctx, made); errors.Is(err, ErrExists) {
		there, err := s.session(ctx, id)
		if err != nil {
			return Session{}, err
		}
		if there.Owner != owner || there.Settings != settings {
			return Session{}, errExists
		}
		return there, nil
	} else if err != nil {
		return Session{}, refuse(err)
	}
	return made, nil
}

// founder returns the name that the owner of a new session has there.
func (s *Sessions) founder(ctx context.Context, who envelope.Principal, id envelope.SessionID, settings Settings, as As) (envelope.NodeID, error) {
	if !as.Anonymous {
		return who.Node, nil
	}
	if settings.NamesOnly {
		return "", errNamesOnly
	}
	there, err := s.session(ctx, id)
	if envelope.CodeOf(err) == envelope.NotFound {
		return s.alias(ctx, who, id, as.Name, false)
	}
	if err != nil {
		return "", err
	}
	m, err := s.rest(ctx, id, who.Node) // who has made it has its alias
	if err == nil && (m.Alias == "" || m.Alias != there.Owner) {
		err = errExists
	}
	return m.Alias, err
}

// Join makes the caller a member and returns the membership, also when it is
// one already: whoever has been invited, and anyone if the session is open.
// Conflict when the session is full, and for who is in by another name.
func (s *Sessions) Join(ctx context.Context, who envelope.Principal, id envelope.SessionID, as As) (Member, error) {
	if as.Anonymous {
		return s.joinAnonymously(ctx, who, id, as.Name)
	}
	return s.settle(ctx, id, who.Node, func(ses Session, m Member) (Member, bool, error) {
		if m.in() {
			return m, false, nil
		}
		other, err := s.rest(ctx, id, m.Alias)
		if err != nil {
			return m, false, err
		}
		switch {
		case other.seated():
			return m, false, errByAlias
		case m.State == Banned, other.State == Banned:
			return m, false, errOutside
		case ses.Owner == who.Node: // whatever it is invited as
			m.Role = Moderator // when it will have handed the session over
		case m.State == Invited: // in the role that was offered
		case !ses.AnyoneCanJoin && !who.App:
			return m, false, errOutside
		case m.Role != Reader: // who has been made one stays it
			m.Role = Ordinary
		}
		if other.Role == Reader && m.Role == Ordinary {
			return m, false, errReads
		}
		m.Client, m.State, m.By = who.Client, Joining, ""
		if err := spend(&m.Paid, who); err != nil {
			return m, false, err
		}
		return m, true, s.fence(ctx, other)
	})
}

// Leave ends the caller's membership and returns it, also when it has ended
// already. The owner goes last, or hands the session over first: else Conflict.
// It stays owner of the session that it has left empty, and may come back.
func (s *Sessions) Leave(ctx context.Context, who envelope.Principal, id envelope.SessionID) (Member, error) {
	own, err := s.own(ctx, id, who.Node)
	if err != nil {
		return Member{}, err
	}
	return s.settle(ctx, id, own.Node, func(ses Session, m Member) (Member, bool, error) {
		switch {
		case m.in():
		case len(m.Spans) > 0 && (m.State == Left || m.State == Banned):
			return m, false, nil
		default:
			return m, false, errOutside // never a member
		}
		if ses.Owner == m.Node {
			others, err := s.seats(ctx, id, m.Node)
			if err != nil {
				return m, false, err
			}
			if others > 0 {
				return m, false, errIsOwner
			}
		}
		m.State, m.By, m.Next = Leaving, "", Ordinary
		return m, true, nil
	})
}

// Get returns a session and its members to one of them or the app, those about
// to be or not to be one included, since they have a seat.
// Where the caller may not see the others, it is the only one; one that has
// been invited sees itself as that. Whose an alias is is told to nobody else,
// the app included.
func (s *Sessions) Get(ctx context.Context, who envelope.Principal, id envelope.SessionID) (Session, []Member, error) {
	ses, err := s.session(ctx, id)
	if err != nil {
		return Session{}, nil, err
	}
	all, err := s.store.Members(ctx, id)
	if err != nil {
		return Session{}, nil, refuse(err)
	}
	members, own := all[:0], []Member(nil)
	for _, m := range all {
		if m.seated() {
			members = append(members, m)
		}
		if m.Device == who.Node && (m.in() || m.State == Leaving || m.State == Invited && own == nil) {
			own = []Member{m}
		}
	}
	for i := range members {
		if m := &members[i]; m.Device != who.Node {
			if m.Alias = ""; m.Hidden() {
				m.Device, m.Client = "", ""
			}
		}
	}
	switch {
	case who.App:
		return ses, members, nil
	case len(own) == 0:
		return Session{}, nil, errOutside
	case own[0].State == Invited, ses.MembersHidden && ses.RoleOf(own[0]) < Moderator:
		return ses, own, nil
	}
	return ses, members, nil
}

// Of returns the memberships of a device that give it something to read, ended
// ones included, with every change that a crash interrupted completed: one for
// each session, as [Sessions.Stays] does. ByAlias tells of each Span by which
// name the device was in then.
func (s *Sessions) Of(ctx context.Context, device envelope.NodeID) ([]Member, error) {
	rows, err := s.store.Memberships(ctx, device)
	if err != nil {
		return nil, refuse(err)
	}
	named := make(map[envelope.SessionID]Member, len(rows))
	aliased := make(map[envelope.SessionID]Member)
	for _, m := range rows {
		if !m.atRest() {
			if m, err = s.rest(ctx, m.Session, m.Node); err != nil {
				return nil, err
			}
		}
		if m.Node == device {
			named[m.Session] = m
		} else if len(m.Spans) > 0 {
			aliased[m.Session] = m
		}
	}
	readable := rows[:0]
	for id, m := range named {
		if by, ok := aliased[id]; ok {
			m = joint(m, by)
		}
		if len(m.Spans) > 0 {
			readable = append(readable, m)
		}
	}
	return readable, nil
}

// Stays returns a device's membership of a session, in whatever state and with
// a change that a crash interrupted completed: that by which it is in, or was
// last, but with the Spans of that by name and that by alias, and the Alias. It
// has no Spans if the device never was a member, or there is no such session.
func (s *Sessions) Stays(ctx context.Context, id envelope.SessionID, device envelope.NodeID) (Member, error) {
	named, err := s.rest(ctx, id, device)
	if err != nil || named.Alias == "" {
		return named, err
	}
	m, err := s.rest(ctx, id, named.Alias)
	return joint(named, m), err
}

// Resolve returns the address whose log a message goes to, once the sender's
// right to write there is sure: NotFound for who is not in the session,
// Forbidden for who only reads. It is here, and nowhere else, that the alias of
// an anonymous sender takes the place of its id, and that what a player sends to a
// game becomes a message for its master; when there is none to take one that is
// not to be stored, the address is zero.
func (s *Sessions) Resolve(ctx context.Context, env *envelope.Envelope) (envelope.Address, error) {
	if env.DestSession == "" {
		return env.Dest(), env.CheckDest()
	}
	sender, err := s.standing(ctx, env.DestSession, env.SrcNode)
	if err == nil && !sender.writes && !sender.game {
		err = errReader
	}
	if err == nil && env.DestNode != "" {
		err = s.present(ctx, env.DestSession, env.DestNode)
	}
	addr := env.Dest()
	if err == nil && sender.game {
		addr, err = s.direct(ctx, env, sender)
	}
	if err != nil {
		return envelope.Address{}, err
	}
	if env.SrcNode = sender.self; sender.hidden {
		env.SrcClient = ""
	}
	return addr, nil
}

// present refuses unless somebody is in a session by that name.
func (s *Sessions) present(ctx context.Context, id envelope.SessionID, name envelope.NodeID) error {
	of, err := s.standing(ctx, id, name)
	if err == nil && of.self != name {
		err = errOutside // it is there by an alias, which is not to be seen
	}
	return err
}

// NameOf returns the name by which a device is in a session, and whether whose
// it is is not to be known; NotFound unless it is in.
func (s *Sessions) NameOf(ctx context.Context, id envelope.SessionID, device envelope.NodeID) (name envelope.NodeID, hidden bool, err error) {
	of, err := s.standing(ctx, id, device)
	return of.self, of.hidden, err
}

// IsMember reports whether a device is in a session, which need not exist.
func (s *Sessions) IsMember(ctx context.Context, id envelope.SessionID, device envelope.NodeID) (bool, error) {
	_, err := s.standing(ctx, id, device)
	if envelope.CodeOf(err) == envelope.NotFound {
		return false, nil
	}
	return err == nil, err
}

// Observe learns from an entry of a session's log whose rights have changed.
func (s *Sessions) Observe(env *envelope.Envelope) {
	if node := concerns(env); node != "" {
		s.Forget(env.DestSession, node)
	} else if env.HasType && env.Type == envelope.TypeMaster {
		s.Forget(env.DestSession, "")
	}
}

// Forget drops what is remembered of a membership, because it has changed, or
// with node "" of who is master.
func (s *Sessions) Forget(id envelope.SessionID, node envelope.NodeID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if node == "" {
		s.rulings.Remove(id)
	}
	if known, ok := s.cached.Get(memberKey{id, node}); ok {
		s.cached.Remove(memberKey{id, known.device})
		s.cached.Remove(memberKey{id, known.self})
	}
	s.news++
}

// standing returns how a device, or who has an alias, is in a session; NotFound
// unless it is.
func (s *Sessions) standing(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (standing, error) {
	key := memberKey{id, node}
	now := time.Now()
	s.mu.Lock()
	known, ok := s.cached.Get(key)
	news := s.news
	s.mu.Unlock()
	if ok && !now.After(known.until) {
		return known, nil
	}
	m, err := s.store.Member(ctx, id, node)
	if err == nil && !m.in() && m.Alias != "" {
		m, err = s.store.Member(ctx, id, m.Alias)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return standing{}, refuse(err)
	}
	if err != nil || !m.in() {
		// Not remembered: whoever joins now, at any server, may write at once.
		return standing{}, errOutside
	}
	is := standing{until: now.Add(trust), self: m.Node, device: m.Device, hidden: m.Hidden(), writes: m.mayWrite(), game: m.Kind == Game}
	if !is.writes {
		return is, nil // nor that, for the same reason
	}
	s.mu.Lock()
	if s.news == news { // else what was read may be older than what the log says
		s.cached.Add(memberKey{id, is.device}, is)
		if is.self != is.device {
			s.cached.Add(memberKey{id, is.self}, is)
		}
	}
	s.mu.Unlock()
	return is, nil
}

// session reads a session, with a change of settings that was begun completed.
func (s *Sessions) session(ctx context.Context, id envelope.SessionID) (Session, error) {
	if !envelope.ValidID(string(id)) {
		return Session{}, errNoID
	}
	return again(ctx, func() (Session, error) {
		ses, err := s.store.Session(ctx, id)
		if err == nil && ses.Op != "" {
			ses, err = s.apply(ctx, ses)
		}
		return ses, err
	})
}

// rest reads a membership, with a change that was begun completed. It is of
// version 0 when there is none.
func (s *Sessions) rest(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (Member, error) {
	return again(ctx, func() (Member, error) {
		m, err := s.member(ctx, id, node)
		if err == nil && m.Version > 0 && !m.atRest() {
			m, err = s.complete(ctx, m)
		}
		return m, err
	})
}

// settle brings a membership to rest and then lets change say what it should
// become; if that is a new intent, the intent is written, its entry appended,
// and the outcome written.
//
// The order makes each step repeatable by anyone: the entry's id is in the
// intent, so appending it again after a crash returns the same seq.
//
// The session is read after the membership. A device becomes owner by way of
// its membership, so as long as that has not changed, what was read of the
// session is right about whether the device is the owner.
func (s *Sessions) settle(ctx context.Context, id envelope.SessionID, node envelope.NodeID, change func(Session, Member) (Member, bool, error)) (Member, error) {
	if !envelope.ValidID(string(id)) {
		return Member{}, errNoID
	}
	return again(ctx, func() (Member, error) {
		m, err := s.rest(ctx, id, node)
		if err != nil {
			return Member{}, err
		}
		ses, err := s.session(ctx, id)
		if err != nil {
			return Member{}, err
		}
		next, changed, err := change(ses, m)
		if err != nil || !changed {
			return next, err
		}
		next.Version++
		next.Kind = ses.Kind
		if !next.atRest() {
			next.Op = rand.Text()
		}
		if err = s.put(ctx, ses, next); err == nil && !next.atRest() {
			next, err = s.complete(ctx, next)
		}
		return next, err
	})
}

// put writes a membership, once there is room for it.
func (s *Sessions) put(ctx context.Context, ses Session, m Member) error {
	if m.State == Joining && ses.MemberLimit > 0 {
		if err := s.admit(ctx, ses, m); err != nil {
			return err
		}
	}
	return s.store.PutMember(ctx, m)
}

// complete carries out an intent. ErrChanged when it is to be looked at again.
func (s *Sessions) complete(ctx context.Context, m Member) (Member, error) {
	if m.State == Changing && m.Next == Owner {
		crowned, err := s.crown(ctx, m)
		if err != nil {
			return Member{}, err
		}
		if !crowned {
			m.State, m.Next, m.Reign = Joined, Ordinary, 0
			m.Version++
			return Member{}, errors.Join(s.store.PutMember(ctx, m), ErrChanged)
		}
	}
	entry := entryOf(m)
	var ses Session
	if m.State == Joining || m.State == Leaving {
		var err error
		if ses, err = s.store.Session(ctx, m.Session); err == nil {
			entry.ShownFrom, err = s.notified(ctx, ses, m)
		}
		if err != nil {
			return Member{}, err
		}
	}
	seq, err := s.append(ctx, m.Session.Address(), &entry)
	if err != nil {
		return Member{}, err
	}
	m.Spans = append([]Span(nil), m.Spans...)
	switch m.State {
	case Joining:
		stay, err := s.begin(ctx, ses, seq)
		if err != nil {
			return Member{}, err
		}
		m.State = Joined
		m.Spans = append(m.Spans, stay)
		m.Spans = m.Spans[max(0, len(m.Spans)-maxSpans):]
	case Leaving:
		m.State = Left
		if m.Next == Outcast {
			m.State = Banned
		}
		if m.Role == Moderator {
			m.Role = Ordinary // a role that is given anew; a reader stays one
		}
		m.Spans[len(m.Spans)-1].Until = seq
	case Changing:
		m.State, m.Role = Joined, min(m.Next, Moderator) // see Member.Role
	case Revealing:
		m.State, m.Revealed = Joined, true
	}
	m.Next, m.Reign = Ordinary, 0
	m.Version++
	if err := s.store.PutMember(ctx, m); err != nil {
		return Member{}, err
	}
	s.Forget(m.Session, m.Device)
	s.Forget(m.Session, m.Node)
	if s.changed != nil {
		s.changed(m.Session, m.Device)
	}
	return m, nil
}

// again carries out an operation, from its beginning each time that somebody
// else was faster.
func again[T any](ctx context.Context, operation func() (T, error)) (T, error) {
	var none T
	for i := range attempts {
		result, err := operation()
		if !errors.Is(err, ErrChanged) {
			return result, refuse(err)
		}
		if err := pause(ctx, i); err != nil {
			return none, err
		}
	}
	return none, errTooFast
}

// pause waits before an operation starts over, the longer the more often.
func pause(ctx context.Context, attempt int) error {
	longest := min(time.Millisecond<<min(attempt, 10), maxPause)
	select {
	case <-time.After(mathrand.N(longest)):
		return nil
	case <-ctx.Done():
		return envelope.BusyError(500, "gave up waiting", context.Cause(ctx))
	}
}

var (
	errExists  = envelope.Errorf(envelope.Conflict, "a session with that id exists")
	errNoID    = envelope.Errorf(envelope.BadRequest, "session_id has not the form of an id")
	errOutside = refuse(ErrNotFound)
	errTooFast = envelope.BusyError(500, "the session is changing too fast", nil)
	errReader  = envelope.Errorf(envelope.Forbidden, "a reader does not send to the session")
	errIsOwner = envelope.Errorf(envelope.Conflict, "the owner hands the session over first")
)

// refuse turns a store's error into one for the client.
func refuse(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotFound):
		return &envelope.Error{Code: envelope.NotFound, Detail: "no such session, or not yours to see", Cause: err}
	}
	return envelope.AsError(err)
}
