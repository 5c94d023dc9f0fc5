package mongo

import (
	"context"
	"errors"
	"reflect"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// headerRow is a document of the collection headers.
type headerRow struct {
	Session envelope.SessionID `bson:"_id"`
	Seq     int64              `bson:"s,omitempty"`
	By      envelope.NodeID    `bson:"b,omitempty"`
	Payload []byte             `bson:"p,omitempty"`
	Version int64              `bson:"v"`
	Op      string             `bson:"o,omitempty"`
	NextBy  envelope.NodeID    `bson:"y,omitempty"`
	Next    []byte             `bson:"x,omitempty"`
	Paid    int64              `bson:"d,omitempty"`
}

func headerRowOf(h session.Header) headerRow {
	row := headerRow{
		Session: h.Session, Seq: int64(h.Seq), By: h.By, Payload: h.Payload, Version: int64(h.Version),
		Op: h.Op, NextBy: h.NextBy, Next: h.Next, Paid: h.Paid,
	}
	if len(row.Payload) == 0 { // what is not stored comes back as nil
		row.Payload = nil
	}
	if len(row.Next) == 0 {
		row.Next = nil
	}
	return row
}

func (r headerRow) header() session.Header {
	return session.Header{
		Session: r.Session, Seq: uint64(r.Seq), By: r.By, Payload: r.Payload, Version: uint64(r.Version),
		Op: r.Op, NextBy: r.NextBy, Next: r.Next, Paid: r.Paid,
	}
}

// PutHeader implements [session.Store].
func (s *Store) PutHeader(ctx context.Context, h session.Header) error {
	if h.Version == 0 {
		return session.ErrChanged
	}
	row := headerRowOf(h)
	return s.change(ctx, func(ctx context.Context, again bool) error {
		done, err := s.putHeader(ctx, row)
		if done || err != nil {
			return err
		}
		if !again {
			return session.ErrChanged
		}
		// Perhaps it was changed by this very call.
		var stored headerRow
		err = s.headers.FindOne(ctx, byID(row.Session)).Decode(&stored)
		none := errors.Is(err, mongo.ErrNoDocuments)
		switch {
		case none && row.Version == 1, err == nil && stored.Version < row.Version:
			return errOld
		case none, err == nil && !reflect.DeepEqual(stored, row):
			return session.ErrChanged
		}
		return err
	})
}

// putHeader reports false when another version than the one before is stored.
func (s *Store) putHeader(ctx context.Context, row headerRow) (bool, error) {
	if row.Version == 1 {
		_, err := s.headers.InsertOne(ctx, row)
		if mongo.IsDuplicateKeyError(err) {
			return false, nil
		}
		return err == nil, err
	}
	result, err := s.headers.ReplaceOne(ctx, byID(row.Session, equals("v", row.Version-1)), row)
	return err == nil && result.MatchedCount == 1, err
}

// Headers implements [session.Store].
func (s *Store) Headers(ctx context.Context, ids []envelope.SessionID) (headers []session.Header, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		rows, err := all[headerRow](ctx, s.headers, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}})
		headers = make([]session.Header, len(rows))
		for i, r := range rows {
			headers[i] = r.header()
		}
		return err
	})
	return headers, err
}
