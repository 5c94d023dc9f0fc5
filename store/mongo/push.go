package mongo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/push"
)

var _ push.Store = (*Store)(nil)

// tokenRow is a document of the collection tokens.
type tokenRow struct {
	ID         string            `bson:"_id"`
	Service    push.Service      `bson:"s"`
	Value      string            `bson:"v"`
	App        string            `bson:"a,omitempty"`
	Sandbox    bool              `bson:"x,omitempty"`
	P256DH     []byte            `bson:"p,omitempty"`
	Auth       []byte            `bson:"h,omitempty"`
	Locale     string            `bson:"l,omitempty"`
	Node       envelope.NodeID   `bson:"n"`
	Client     envelope.ClientID `bson:"c"`
	Registered int64             `bson:"t"`
	JTI        string            `bson:"j,omitempty"`
	Issued     int64             `bson:"i"`
}

// tokenID is not in the way of an index, as a long token would be.
func tokenID(t push.Token) string { return string(t.Service) + "|" + t.Value }

func tokenRowOf(t push.Token) tokenRow {
	return tokenRow{
		tokenID(t), t.Service, t.Value, t.App, t.Sandbox, t.P256DH, t.Auth, t.Locale, t.Node, t.Client, t.Registered, t.JTI, t.Issued,
	}
}

func (r tokenRow) token() push.Token {
	return push.Token{
		Service: r.Service, Value: r.Value, App: r.App, Sandbox: r.Sandbox, P256DH: r.P256DH, Auth: r.Auth, Locale: r.Locale,
		Node: r.Node, Client: r.Client, Registered: r.Registered, JTI: r.JTI, Issued: r.Issued,
	}
}

// PutToken implements [push.Store].
func (s *Store) PutToken(ctx context.Context, t push.Token) error {
	row := tokenRowOf(t)
	return s.change(ctx, func(ctx context.Context, _ bool) error {
		filter := byID(row.ID, bson.E{Key: "t", Value: bson.D{{Key: "$lte", Value: row.Registered}}})
		result, err := s.tokens.ReplaceOne(ctx, filter, row)
		if err != nil || result.MatchedCount == 1 {
			return err
		}
		_, err = s.tokens.InsertOne(ctx, row)
		if !mongo.IsDuplicateKeyError(err) {
			return err
		}
		// One is there: registered later, or else put a moment ago.
		var stored tokenRow
		err = s.tokens.FindOne(ctx, byID(row.ID)).Decode(&stored)
		if errors.Is(err, mongo.ErrNoDocuments) || err == nil && stored.Registered <= row.Registered {
			return errOld
		}
		return err
	})
}

// DropToken implements [push.Store].
func (s *Store) DropToken(ctx context.Context, t push.Token, upto int64) error {
	filter := byID(tokenID(t), equals("n", t.Node), bson.E{Key: "t", Value: bson.D{{Key: "$lte", Value: upto}}})
	return s.change(ctx, func(ctx context.Context, _ bool) error {
		_, err := s.tokens.DeleteOne(ctx, filter)
		return err
	})
}

// DropTokens implements [push.Store].
func (s *Store) DropTokens(ctx context.Context, jti string, before int64) error {
	filter := bson.D{equals("j", jti)}
	if jti == "" {
		filter = bson.D{{Key: "i", Value: bson.D{{Key: "$lt", Value: before}}}}
	}
	return s.change(ctx, func(ctx context.Context, _ bool) error {
		_, err := s.tokens.DeleteMany(ctx, filter)
		return err
	})
}

// TokensOf implements [push.Store].
func (s *Store) TokensOf(ctx context.Context, nodes []envelope.NodeID) ([]push.Token, error) {
	if len(nodes) == 0 {
		return nil, nil
	}
	return s.findTokens(ctx, bson.D{{Key: "n", Value: bson.D{{Key: "$in", Value: nodes}}}})
}

// TokensOfClient implements [push.Store].
func (s *Store) TokensOfClient(ctx context.Context, client envelope.ClientID) ([]push.Token, error) {
	return s.findTokens(ctx, bson.D{equals("c", client)})
}

func (s *Store) findTokens(ctx context.Context, filter bson.D) (tokens []push.Token, err error) {
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		rows, err := all[tokenRow](ctx, s.tokens, filter)
		tokens = make([]push.Token, len(rows))
		for i, r := range rows {
			tokens[i] = r.token()
		}
		return err
	})
	return tokens, err
}

// muteRow is a document of the collection mutes.
type muteRow struct {
	ID    string          `bson:"_id"`
	Node  envelope.NodeID `bson:"n"`
	Log   string          `bson:"l"`
	Until int64           `bson:"u,omitempty"`
}

func muteID(node envelope.NodeID, log envelope.Address) string {
	return string(node) + "|" + log.String()
}

// PutMute implements [push.Store].
func (s *Store) PutMute(ctx context.Context, m push.Mute) error {
	row := muteRow{muteID(m.Node, m.Log), m.Node, m.Log.String(), m.Until}
	return s.change(ctx, func(ctx context.Context, _ bool) error {
		_, err := s.mutes.ReplaceOne(ctx, byID(row.ID), row, options.Replace().SetUpsert(true))
		if mongo.IsDuplicateKeyError(err) { // two at once
			return errOld
		}
		return err
	})
}

// DropMute implements [push.Store].
func (s *Store) DropMute(ctx context.Context, node envelope.NodeID, log envelope.Address) error {
	return s.change(ctx, func(ctx context.Context, _ bool) error {
		_, err := s.mutes.DeleteOne(ctx, byID(muteID(node, log)))
		return err
	})
}

// Mutes implements [push.Store].
func (s *Store) Mutes(ctx context.Context, node envelope.NodeID) (mutes []push.Mute, err error) {
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		rows, err := all[muteRow](ctx, s.mutes, bson.D{equals("n", node)})
		mutes = make([]push.Mute, 0, len(rows))
		for _, r := range rows {
			log, parseErr := envelope.ParseAddress(r.Log)
			if parseErr != nil {
				return damaged("mute", parseErr)
			}
			mutes = append(mutes, push.Mute{Node: r.Node, Log: log, Until: r.Until})
		}
		return err
	})
	return mutes, err
}

// jobRow is a document of the collection jobs. One that [Store.Touch] has made
// has no more than due and version.
type jobRow struct {
	ID       string    `bson:"_id"`
	Due      int64     `bson:"u"`
	Claim    string    `bson:"c,omitempty"`
	Version  int64     `bson:"v"`
	Opens    int64     `bson:"n,omitempty"`
	Attempts int       `bson:"a,omitempty"`
	Told     []toldRow `bson:"t,omitempty"`
	Failed   *deadRow  `bson:"f,omitempty"`
	Op       string    `bson:"o,omitempty"` // of the change that has made it so
}

type toldRow struct {
	Log string `bson:"l"`
	Seq int64  `bson:"s"`
}

type deadRow struct {
	At       int64        `bson:"t"`
	Log      string       `bson:"l"`
	Seq      int64        `bson:"s"`
	Service  push.Service `bson:"v"`
	Reason   string       `bson:"r"`
	Attempts int          `bson:"a"`
}

func jobID(k push.JobKey) string { return fmt.Sprintf("%d|%s", k.Task, k.Addr) }

func jobRowOf(j push.Job, op string) jobRow {
	row := jobRow{ID: jobID(j.JobKey), Due: j.Due, Claim: j.Claim, Version: int64(j.Version), Opens: j.Opens, Attempts: j.Attempts, Op: op}
	for log, seq := range j.Told {
		row.Told = append(row.Told, toldRow{log.String(), int64(seq)})
	}
	if f := j.Failed; f != nil {
		row.Failed = &deadRow{f.At, f.Log.String(), int64(f.Seq), f.Service, f.Reason, f.Attempts}
	}
	return row
}

func (r jobRow) job() (j push.Job, err error) {
	j = push.Job{Due: r.Due, Claim: r.Claim, Version: uint64(r.Version), Opens: r.Opens, Attempts: r.Attempts}
	if len(r.ID) < 2 {
		return j, damaged("job", nil)
	}
	j.Task = push.Task(r.ID[0] - '0')
	if j.Addr, err = envelope.ParseAddress(r.ID[2:]); err != nil {
		return j, damaged("job", err)
	}
	for _, t := range r.Told {
		log, err := envelope.ParseAddress(t.Log)
		if err != nil {
			return j, damaged("job", err)
		}
		if j.Told == nil {
			j.Told = make(map[envelope.Address]uint64, len(r.Told))
		}
		j.Told[log] = uint64(t.Seq)
	}
	if f := r.Failed; f != nil {
		j.Failed = &push.DeadLetter{At: f.At, Seq: uint64(f.Seq), Service: f.Service, Reason: f.Reason, Attempts: f.Attempts}
		if j.Failed.Log, err = envelope.ParseAddress(f.Log); err != nil {
			return j, damaged("job", err)
		}
	}
	return j, nil
}

// Touch implements [push.Store]. It takes three steps, each of which is a change
// for whoever claims the job meanwhile: a job at rest, which is due at 0 and so
// before every time; one that nobody has claimed; and any other, or none.
func (s *Store) Touch(ctx context.Context, keys []push.JobKey, due int64) error {
	if len(keys) == 0 {
		return nil
	}
	var writes []mongo.WriteModel
	step := func(filter bson.D, operator string) *mongo.UpdateOneModel {
		return mongo.NewUpdateOneModel().SetFilter(filter).SetUpdate(bson.D{
			{Key: operator, Value: bson.D{{Key: "u", Value: due}}}, {Key: "$inc", Value: bson.D{{Key: "v", Value: int64(1)}}},
		})
	}
	for _, k := range keys {
		id := jobID(k)
		writes = append(writes,
			step(byID(id, equals("u", int64(0))), "$set"),
			step(byID(id, equals("c", nil)), "$min"),
			step(byID(id), "$setOnInsert").SetUpsert(true))
	}
	return s.change(ctx, func(ctx context.Context, _ bool) error {
		_, err := s.jobs.BulkWrite(ctx, writes, options.BulkWrite().SetOrdered(true))
		if mongo.IsDuplicateKeyError(err) { // two upserts at once
			return errOld
		}
		return err
	})
}

// PutJob implements [push.Store].
func (s *Store) PutJob(ctx context.Context, j push.Job) error {
	if j.Version == 0 {
		return push.ErrChanged
	}
	row := jobRowOf(j, rand.Text())
	return s.change(ctx, func(ctx context.Context, again bool) error {
		done, err := s.putJob(ctx, row)
		if done || err != nil {
			return err
		}
		if !again {
			return push.ErrChanged
		}
		// Perhaps it was changed by this very call.
		var stored jobRow
		err = s.jobs.FindOne(ctx, byID(row.ID)).Decode(&stored)
		switch {
		case err == nil && stored.Op == row.Op:
			return nil
		case err == nil && stored.Version < row.Version:
			return errOld
		case err == nil || errors.Is(err, mongo.ErrNoDocuments):
			return push.ErrChanged
		}
		return err
	})
}

// putJob reports false when another version than the one before is stored.
func (s *Store) putJob(ctx context.Context, row jobRow) (bool, error) {
	if row.Version == 1 {
		_, err := s.jobs.InsertOne(ctx, row)
		if mongo.IsDuplicateKeyError(err) {
			return false, nil
		}
		return err == nil, err
	}
	result, err := s.jobs.ReplaceOne(ctx, byID(row.ID, equals("v", row.Version-1)), row)
	return err == nil && result.MatchedCount == 1, err
}

// DropJob implements [push.Store].
func (s *Store) DropJob(ctx context.Context, j push.Job) error {
	return s.change(ctx, func(ctx context.Context, again bool) error {
		result, err := s.jobs.DeleteOne(ctx, byID(jobID(j.JobKey), equals("v", int64(j.Version))))
		if err == nil && result.DeletedCount == 0 && !again {
			return push.ErrChanged
		}
		return err
	})
}

// Jobs implements [push.Store].
func (s *Store) Jobs(ctx context.Context, keys []push.JobKey) ([]push.Job, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = jobID(k)
	}
	return s.findJobs(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}})
}

// DueJobs implements [push.Store].
func (s *Store) DueJobs(ctx context.Context, now int64, limit int) ([]push.Job, error) {
	due := bson.D{{Key: "u", Value: bson.D{{Key: "$gt", Value: int64(0)}, {Key: "$lte", Value: now}}}}
	return s.findJobs(ctx, due, options.Find().SetSort(bson.D{{Key: "u", Value: 1}}).SetLimit(int64(limit)))
}

// FailedJobs implements [push.Store].
func (s *Store) FailedJobs(ctx context.Context, after envelope.NodeID, limit int) ([]push.Job, error) {
	behind := jobID(push.JobKey{Task: push.Tell, Addr: after.Address()})
	failed := bson.D{
		{Key: "f.t", Value: bson.D{{Key: "$gt", Value: int64(0)}}},
		{Key: "_id", Value: bson.D{{Key: "$gt", Value: behind}}},
	}
	return s.findJobs(ctx, failed, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}).SetLimit(int64(limit)))
}

func (s *Store) findJobs(ctx context.Context, filter bson.D, opts ...options.Lister[options.FindOptions]) (jobs []push.Job, err error) {
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		rows, err := all[jobRow](ctx, s.jobs, filter, opts...)
		if err != nil {
			return err
		}
		jobs = make([]push.Job, len(rows))
		for i, r := range rows {
			if jobs[i], err = r.job(); err != nil {
				return err
			}
		}
		return nil
	})
	return jobs, err
}
