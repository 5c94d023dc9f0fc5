package session

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/allsparkrt/allspark/envelope"
)

// AppendFunc appends an entry to a log and returns its seq; a repeat with the
// same source and id returns the first one.
type AppendFunc func(ctx context.Context, log envelope.Address, env *envelope.Envelope) (uint64, error)

// Sessions decides who belongs to which session. Its methods are safe for
// concurrent use; their errors are [*envelope.Error], and those about a session
// that does not exist and one that the caller may not see are the same.
type Sessions struct {
	store   Store
	append  AppendFunc
	changed func(envelope.SessionID, envelope.NodeID)
	hearing Hearing // nil: nothing is known of what others tell
	// interrupted is told, see OnInterrupted; nil: nobody is.
	interrupted func(envelope.NodeID, envelope.SessionID)

	mu      sync.Mutex
	cached  remembered                                 // guarded by mu
	rulings *simplelru.LRU[envelope.SessionID, ruling] // guarded by mu
	latest  *simplelru.LRU[envelope.SessionID, latest] // guarded by mu
	news    news                                       // guarded by mu; when any of these is forgotten
}

// New returns Sessions over a store whose entries go through append.
// After a membership has changed, or the master of a game with no device named,
// changed is told, so that other servers can be (see [Sessions.Forget]); it must not block, and may be nil.
func New(store Store, append AppendFunc, changed func(envelope.SessionID, envelope.NodeID)) *Sessions {
	return &Sessions{
		store: store, append: append, changed: changed,
		cached:  newRemembered(),
		rulings: newLRU[envelope.SessionID, ruling](maxRulings),
		latest:  newLRU[envelope.SessionID, latest](maxLatest),
	}
}

// OnInterrupted has f told of a device whose membership an error may have left half
// changed: who looks at it next completes the change (see [Sessions.Stays]), unless it is
// asked for again first. f must not block. OnInterrupted must be called before anything else.
func (s *Sessions) OnInterrupted(f func(envelope.NodeID, envelope.SessionID)) { s.interrupted = f }

func newLRU[K comparable, V any](most int) *simplelru.LRU[K, V] {
	lru, err := simplelru.NewLRU[K, V](most, nil)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return lru
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
//
// All members are read for those only who are told of them: there may be many, and
// anybody may ask.
func (s *Sessions) Get(ctx context.Context, who envelope.Principal, id envelope.SessionID) (Session, []Member, error) {
	ses, err := s.session(ctx, id)
	if err != nil {
		return Session{}, nil, err
	}
	if !who.App {
		own, err := s.looking(ctx, id, who.Node)
		if err != nil {
			return Session{}, nil, err
		}
		if own.State == Invited || ses.MembersHidden && ses.RoleOf(own) < Moderator {
			return ses, []Member{own}, nil
		}
	}
	all, err := s.store.Members(ctx, id)
	if err != nil {
		return Session{}, nil, refuse(err)
	}
	members, inside := all[:0], who.App
	for _, m := range all {
		if !m.seated() {
			continue
		}
		if m.Device == who.Node {
			inside = inside || m.State != Joining
		} else if m.Alias = ""; m.Hidden() {
			m.Device, m.Client = "", ""
		}
		members = append(members, m)
	}
	if !inside { // it has left meanwhile
		return Session{}, nil, errOutside
	}
	return ses, members, nil
}

// looking returns the membership by which a device may look at a session: it is in,
// about to leave or invited. NotFound if there is none.
func (s *Sessions) looking(ctx context.Context, id envelope.SessionID, device envelope.NodeID) (Member, error) {
	inside := func(m Member) bool { return m.in() || m.State == Leaving }
	named, err := s.store.Member(ctx, id, device)
	if err != nil || inside(named) {
		return named, refuse(err)
	}
	if named.Alias != "" {
		m, err := s.store.Member(ctx, id, named.Alias)
		if err == nil && inside(m) || err != nil && !errors.Is(err, ErrNotFound) {
			return m, refuse(err)
		}
	}
	if named.State != Invited {
		return Member{}, errOutside
	}
	return named, nil
}

// Of returns the memberships of a device that give it something to read, ended
// ones included, with every change that a crash interrupted completed: one for
// each session, as [Sessions.Stays] does. ByAlias tells of each Span by which
// name the device was in then.
func (s *Sessions) Of(ctx context.Context, device envelope.NodeID) ([]Member, error) {
	asked := s.ask()
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
		s.remember(asked, m) // it is about to be connected, and to write
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
	asked := s.ask()
	named, err := s.rest(ctx, id, device)
	if err != nil {
		return named, err
	}
	s.remember(asked, named)
	if named.Alias == "" {
		return named, nil
	}
	m, err := s.rest(ctx, id, named.Alias)
	if err == nil {
		s.remember(asked, m)
	}
	return joint(named, m), err
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
