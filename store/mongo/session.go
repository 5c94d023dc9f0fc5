package mongo

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// sessionRow is a document of the collection sessions.
type sessionRow struct {
	ID       envelope.SessionID `bson:"_id"`
	Owner    envelope.NodeID    `bson:"o"`
	Former   envelope.NodeID    `bson:"f,omitempty"`
	Reign    int64              `bson:"g,omitempty"`
	Created  int64              `bson:"t"`
	Token    string             `bson:"k"`
	Settings settingsRow        `bson:",inline"`

	Master     envelope.NodeID `bson:"ma,omitempty"`
	MasterTerm int64           `bson:"mt,omitempty"`

	Version         int64            `bson:"v"`
	Op              string           `bson:"p,omitempty"`
	MasterOp        session.Handover `bson:"mo,omitempty"`
	NextMaster      envelope.NodeID  `bson:"mn,omitempty"`
	By              envelope.NodeID  `bson:"b,omitempty"`
	Next            settingsRow      `bson:"x,omitempty"`
	Admitted        envelope.NodeID  `bson:"m,omitempty"`
	AdmittedVersion int64            `bson:"w,omitempty"`
	MostSeats       int              `bson:"q,omitempty"`
	Paid            int64            `bson:"d,omitempty"`
}

type settingsRow struct {
	AnyoneCanJoin bool               `bson:"a,omitempty"`
	MemberLimit   int                `bson:"l,omitempty"`
	MembersHidden bool               `bson:"h,omitempty"`
	Kind          session.Kind       `bson:"c,omitempty"`
	NamesOnly     bool               `bson:"n,omitempty"`
	Successors    session.Successors `bson:"u,omitempty"`
	NotifyLast    int                `bson:"y,omitempty"`
	FromHeader    bool               `bson:"j,omitempty"`
	KeepCount     int                `bson:"kc,omitempty"`
	KeepSeconds   int                `bson:"ks,omitempty"`
	OwnerOnly     bool               `bson:"oo,omitempty"`
}

func sessionRowOf(s session.Session) sessionRow {
	return sessionRow{
		ID: s.ID, Owner: s.Owner, Former: s.Former, Reign: int64(s.Reign), Created: s.Created, Token: s.Token,
		Settings: settingsRow(s.Settings), Master: s.Master, MasterTerm: int64(s.MasterTerm),
		MasterOp: s.MasterOp, NextMaster: s.NextMaster, Version: int64(s.Version), Op: s.Op, By: s.By, Next: settingsRow(s.Next),
		Admitted: s.Admitted, AdmittedVersion: int64(s.AdmittedVersion), MostSeats: s.MostSeats, Paid: s.Paid,
	}
}

func (r sessionRow) session() session.Session {
	return session.Session{
		ID: r.ID, Owner: r.Owner, Former: r.Former, Reign: uint64(r.Reign), Created: r.Created, Token: r.Token,
		Settings: session.Settings(r.Settings), Master: r.Master, MasterTerm: uint64(r.MasterTerm),
		MasterOp: r.MasterOp, NextMaster: r.NextMaster, Version: uint64(r.Version), Op: r.Op, By: r.By, Next: session.Settings(r.Next),
		Admitted: r.Admitted, AdmittedVersion: uint64(r.AdmittedVersion), MostSeats: r.MostSeats, Paid: r.Paid,
	}
}

// Create implements [session.Store].
func (s *Store) Create(ctx context.Context, made session.Session) error {
	return s.change(ctx, func(ctx context.Context, again bool) error {
		_, err := s.sessions.InsertOne(ctx, sessionRowOf(made))
		if !mongo.IsDuplicateKeyError(err) {
			return err
		}
		if !again {
			return session.ErrExists
		}
		// Perhaps it was made by this very call.
		stored, err := s.findSession(ctx, made.ID)
		switch {
		case errors.Is(err, session.ErrNotFound):
			return errOld
		case err == nil && stored != made:
			return session.ErrExists
		}
		return err
	})
}

// Session implements [session.Store].
func (s *Store) Session(ctx context.Context, id envelope.SessionID) (found session.Session, err error) {
	err = s.query(ctx, func(ctx context.Context, _ bool) (err error) {
		found, err = s.findSession(ctx, id)
		return err
	})
	return found, err
}

// List implements [session.Store].
func (s *Store) List(ctx context.Context, after envelope.SessionID, limit int) (some []session.Session, err error) {
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		behind := bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: after}}}}
		rows, err := all[sessionRow](ctx, s.sessions, behind, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}).SetLimit(int64(limit)))
		some = make([]session.Session, len(rows))
		for i, r := range rows {
			some[i] = r.session()
		}
		return err
	})
	return some, err
}

func (s *Store) findSession(ctx context.Context, id envelope.SessionID) (session.Session, error) {
	var row sessionRow
	err := s.sessions.FindOne(ctx, byID(id)).Decode(&row)
	if errors.Is(err, mongo.ErrNoDocuments) {
		err = session.ErrNotFound
	}
	return row.session(), err
}

// UpdateSession implements [session.Store].
func (s *Store) UpdateSession(ctx context.Context, changed session.Session) error {
	if changed.Version == 0 {
		return session.ErrChanged
	}
	return s.change(ctx, func(ctx context.Context, again bool) error {
		before := byID(changed.ID, equals("v", int64(changed.Version-1)))
		if changed.Version == 1 { // one that was made before sessions had versions
			before = byID(changed.ID, equals("v", bson.D{{Key: "$in", Value: bson.A{int64(0), nil}}}))
		}
		result, err := s.sessions.ReplaceOne(ctx, before, sessionRowOf(changed))
		if err != nil || result.MatchedCount == 1 {
			return err
		}
		if !again {
			return session.ErrChanged
		}
		// Perhaps it was changed by this very call.
		stored, err := s.findSession(ctx, changed.ID)
		switch {
		case errors.Is(err, session.ErrNotFound), err == nil && stored.Version >= changed.Version && stored != changed:
			return session.ErrChanged
		case err == nil && stored.Version < changed.Version:
			return errOld
		}
		return err
	})
}

// memberRow is a document of the collection members.
type memberRow struct {
	ID      string             `bson:"_id"`
	Session envelope.SessionID `bson:"s"`
	Device  envelope.NodeID    `bson:"n"`
	Node    envelope.NodeID    `bson:"m"`
	Client  envelope.ClientID  `bson:"c,omitempty"`
	Kind    session.Kind       `bson:"k,omitempty"`
	State   int32              `bson:"w"`
	Role    int32              `bson:"r,omitempty"`
	Op      string             `bson:"o,omitempty"`
	By      envelope.NodeID    `bson:"b,omitempty"`
	Stays   []stayRow          `bson:"p,omitempty"`
	Version int64              `bson:"v"`
	Next    int32              `bson:"x,omitempty"`
	Reign   int64              `bson:"g,omitempty"`
	Paid    int64              `bson:"d,omitempty"`

	Alias    envelope.NodeID `bson:"a,omitempty"`
	Revealed bool            `bson:"e,omitempty"`
	Given    bool            `bson:"f,omitempty"`
}

type stayRow struct {
	From   int64 `bson:"f"`
	Until  int64 `bson:"u,omitempty"`
	Since  int64 `bson:"s,omitempty"`
	Header int64 `bson:"h,omitempty"`
}

func memberID(id envelope.SessionID, node envelope.NodeID) string {
	return string(id) + "|" + string(node)
}

func memberRowOf(m session.Member) memberRow {
	row := memberRow{
		ID: memberID(m.Session, m.Node), Session: m.Session, Kind: m.Kind, Device: m.Device, Node: m.Node, Client: m.Client,
		State: int32(m.State), Role: int32(m.Role), Op: m.Op, By: m.By, Version: int64(m.Version),
		Next: int32(m.Next), Reign: int64(m.Reign), Paid: m.Paid, Alias: m.Alias, Revealed: m.Revealed, Given: m.Given,
	}
	for _, span := range m.Spans {
		row.Stays = append(row.Stays, stayRow{int64(span.From), int64(span.Until), int64(span.Since), int64(span.Header)})
	}
	return row
}

func (r memberRow) member() session.Member {
	m := session.Member{
		Session: r.Session, Kind: r.Kind, Device: r.Device, Node: r.Node, Client: r.Client,
		State: session.State(r.State), Role: session.Role(r.Role), Op: r.Op, By: r.By, Version: uint64(r.Version),
		Next: session.Role(r.Next), Reign: uint64(r.Reign), Paid: r.Paid, Alias: r.Alias, Revealed: r.Revealed, Given: r.Given,
	}
	for _, stay := range r.Stays {
		m.Spans = append(m.Spans, session.Span{From: uint64(stay.From), Until: uint64(stay.Until), Since: uint64(stay.Since), Header: uint64(stay.Header)})
	}
	return m
}

func (r memberRow) equal(other memberRow) bool {
	stays := slices.Equal(r.Stays, other.Stays)
	r.Stays, other.Stays = nil, nil
	return stays && reflect.DeepEqual(r, other)
}

// PutMember implements [session.Store].
func (s *Store) PutMember(ctx context.Context, m session.Member) error {
	if m.Version == 0 {
		return session.ErrChanged
	}
	row := memberRowOf(m)
	return s.change(ctx, func(ctx context.Context, again bool) error {
		done, err := s.putMember(ctx, row)
		if done || err != nil {
			return err
		}
		if !again {
			return session.ErrChanged
		}
		// Perhaps it was changed by this very call.
		stored, err := s.findMember(ctx, row.Session, row.Node)
		switch {
		case errors.Is(err, session.ErrNotFound) && row.Version == 1, err == nil && stored.Version < row.Version:
			return errOld
		case errors.Is(err, session.ErrNotFound), err == nil && !stored.equal(row):
			return session.ErrChanged
		}
		return err
	})
}

// putMember reports false when another version than the one before is stored.
func (s *Store) putMember(ctx context.Context, row memberRow) (bool, error) {
	if row.Version == 1 {
		_, err := s.members.InsertOne(ctx, row)
		if mongo.IsDuplicateKeyError(err) {
			return false, nil
		}
		return err == nil, err
	}
	before := byID(row.ID, equals("s", row.Session), equals("v", row.Version-1))
	result, err := s.members.ReplaceOne(ctx, before, row)
	return err == nil && result.MatchedCount == 1, err
}

// Member implements [session.Store].
func (s *Store) Member(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (found session.Member, err error) {
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		row, err := s.findMember(ctx, id, node)
		found = row.member()
		return err
	})
	return found, err
}

func (s *Store) findMember(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (row memberRow, err error) {
	err = s.members.FindOne(ctx, byID(memberID(id, node), equals("s", id))).Decode(&row)
	if errors.Is(err, mongo.ErrNoDocuments) {
		err = session.ErrNotFound
	}
	return row, err
}

// Members implements [session.Store].
func (s *Store) Members(ctx context.Context, id envelope.SessionID) ([]session.Member, error) {
	return s.findMembers(ctx, equals("s", id))
}

// Memberships implements [session.Store].
func (s *Store) Memberships(ctx context.Context, device envelope.NodeID) ([]session.Member, error) {
	return s.findMembers(ctx, equals("n", device))
}

func (s *Store) findMembers(ctx context.Context, by bson.E) (members []session.Member, err error) {
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		rows, err := all[memberRow](ctx, s.members, bson.D{by})
		members = make([]session.Member, len(rows))
		for i, r := range rows {
			members[i] = r.member()
		}
		return err
	})
	return members, err
}
