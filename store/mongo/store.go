package mongo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
)

// Options say which database to use and how long to wait for it. Zero values
// mean the defaults.
type Options struct {
	URI      string        // mongodb:// or mongodb+srv://; credentials and TLS are given here
	Database string        // default "allspark"
	Logger   *slog.Logger  // default: none
	Timeout  time.Duration // for one call or one batch of appends, repetitions included; default 5 s

	// Appends that wait, in bytes; what does not fit is refused with Busy.
	QueueBytes       int // of all logs; default 64 MiB
	QueueBytesPerLog int // default 4 MiB

	// Quotas bound what may stand in a log. All servers should have the same.
	Quotas inbox.Quotas
}

func (o Options) withDefaults() Options {
	def := func(n *int, value int) {
		if *n <= 0 {
			*n = value
		}
	}
	def(&o.QueueBytes, 64<<20)
	def(&o.QueueBytesPerLog, 4<<20)
	if o.Database == "" {
		o.Database = "allspark"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	return o
}

// Store keeps everything in one MongoDB database, which any number of servers
// may share. It implements [inbox.Store], [graph.Store], [session.Store]
// and [auth.RevocationStore]. All methods are safe for concurrent use. Their errors are the sentinel
// errors of those interfaces, or [*envelope.Error]: Busy when the database did
// not answer within the time-out.
type Store struct {
	// Static after Open.
	client   *mongo.Client
	logger   *slog.Logger
	timeout  time.Duration
	reads    *breaker
	writes   *breaker
	appender *appender
	epoch    string

	messages  messages
	cursors   *mongo.Collection
	servers   *mongo.Collection
	edges     *mongo.Collection
	sightings *mongo.Collection
	sessions  *mongo.Collection
	members   *mongo.Collection
	headers   *mongo.Collection
	tokens    *mongo.Collection
	mutes     *mongo.Collection
	jobs      *mongo.Collection
	meta      *mongo.Collection

	revocations *mongo.Collection
}

var (
	_ inbox.Store   = (*Store)(nil)
	_ graph.Store   = (*Store)(nil)
	_ session.Store = (*Store)(nil)

	_ auth.RevocationStore = (*Store)(nil)
)

// Open connects to a database and creates what indexes it lacks. The error
// names the hosts and never the credentials; it may be worth calling again.
// Once open, a Store finds its database again by itself.
func Open(ctx context.Context, o Options) (*Store, error) {
	o = o.withDefaults()
	config := options.Client().ApplyURI(o.URI)
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("mongo: the URI is not usable: %s", withoutCredentials(err.Error(), o.URI))
	}
	config.SetAppName("allspark").
		SetReadPreference(readpref.Primary()).
		SetReadConcern(readconcern.Majority()).
		SetWriteConcern(durable()).
		SetServerSelectionTimeout(o.Timeout)
	client, err := mongo.Connect(config)
	if err != nil {
		return nil, fmt.Errorf("mongo: connecting to %s: %s", strings.Join(config.Hosts, ","), withoutCredentials(err.Error(), o.URI))
	}
	s := newStore(client, o)
	if err := s.prepare(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("mongo: database %q at %s: %s", o.Database, strings.Join(config.Hosts, ","), withoutCredentials(err.Error(), o.URI))
	}
	return s, nil
}

// durable is the write concern of everything that must not get lost.
func durable() *writeconcern.WriteConcern {
	journal := true
	return &writeconcern.WriteConcern{W: "majority", Journal: &journal}
}

func newStore(client *mongo.Client, o Options) *Store {
	database := client.Database(o.Database)
	// What must be seen by every later read but need not survive a loss of power.
	seen := options.Collection().SetWriteConcern(writeconcern.Majority())
	// What may be lost: a lost cursor repeats a delivery, a lost sighting is told by the next.
	lazy := options.Collection().SetWriteConcern(writeconcern.W1()).SetReadConcern(readconcern.Local())
	s := &Store{
		client:    client,
		logger:    o.Logger,
		timeout:   o.Timeout,
		messages:  messages{database.Collection("messages")},
		cursors:   database.Collection("cursors", lazy),
		servers:   database.Collection("servers", seen),
		edges:     database.Collection("edges", seen),
		sightings: database.Collection("sightings", lazy),
		sessions:  database.Collection("sessions"),
		members:   database.Collection("members"),
		headers:   database.Collection("headers"),
		tokens:    database.Collection("tokens"),
		mutes:     database.Collection("mutes"),
		jobs:      database.Collection("jobs"),
		meta:      database.Collection("meta"),

		revocations: database.Collection("revocations"),
	}
	s.reads = newBreaker("reads", o, s.probeRead)
	s.writes = newBreaker("writes", o, s.probeWrite)
	s.appender = newAppender(s.messages, s.writes, o)
	return s
}

// probeRead is the least that shows that reads work.
func (s *Store) probeRead(ctx context.Context) error {
	err := s.meta.FindOne(ctx, byID("epoch")).Err()
	if errors.Is(err, mongo.ErrNoDocuments) {
		err = nil
	}
	return err
}

// probeWrite is the least that shows that durable writes work.
func (s *Store) probeWrite(ctx context.Context) error {
	_, err := s.meta.UpdateOne(ctx, byID("probe"),
		bson.D{{Key: "$set", Value: bson.D{{Key: "t", Value: time.Now().UnixMilli()}}}}, options.UpdateOne().SetUpsert(true))
	return err
}

// prepare finds the indexes and the epoch, or creates them. It looks first, so
// that a server that starts beside busy ones has nothing to write.
func (s *Store) prepare(ctx context.Context) error {
	if err := s.soon(ctx, func(ctx context.Context) error { return s.client.Ping(ctx, nil) }); err != nil {
		return err
	}
	if err := s.index(ctx); err != nil {
		return err
	}
	return s.soon(ctx, func(ctx context.Context) error {
		return s.change(ctx, func(ctx context.Context, _ bool) error { return s.findEpoch(ctx) })
	})
}

// soon calls f with the time that a call may take.
func (s *Store) soon(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return f(ctx)
}

// index creates the indexes that are missing. Over a collection that is large
// already one takes minutes. The driver hands a deadline to the server, which would
// break it off and begin anew at the next attempt, so there is none.
func (s *Store) index(ctx context.Context) error {
	// Only what has been trimmed is in it, so that an append does not pay for it.
	stubs := options.Index().SetPartialFilterExpression(bson.D{equals("x", true)})
	revisions := options.Index().SetPartialFilterExpression(bson.D{{Key: "r", Value: bson.D{{Key: "$gt", Value: 0}}}})
	failed := options.Index().SetPartialFilterExpression(bson.D{{Key: "f.t", Value: bson.D{{Key: "$gt", Value: 0}}}})
	existing := make(map[*mongo.Collection]map[string][]string)
	for _, index := range []struct {
		collection *mongo.Collection
		name       string
		options    *options.IndexOptionsBuilder
		fields     []string
	}{
		{s.messages.Collection, logSeqIndex, options.Index().SetUnique(true), []string{"l", "s"}},
		{s.messages.Collection, stubIndex, stubs, []string{"l", "x", "s"}},
		{s.messages.Collection, revIndex, revisions, []string{"l", "r", "s"}},
		{s.cursors, "node", options.Index(), []string{"n"}},
		{s.cursors, "log", options.Index(), []string{"l"}},
		{s.edges, "addr", options.Index(), []string{"a"}},
		{s.edges, "server_boot", options.Index(), []string{"v", "b"}},
		{s.members, "session", options.Index(), []string{"s"}},
		{s.members, "node", options.Index(), []string{"n"}},
		{s.tokens, "node", options.Index(), []string{"n"}},
		{s.tokens, "client", options.Index(), []string{"c"}},
		{s.mutes, "node", options.Index(), []string{"n"}},
		{s.jobs, "due", options.Index(), []string{"u"}},
		{s.jobs, "failed", failed, []string{"f.t"}},
	} {
		if existing[index.collection] == nil {
			_ = s.soon(ctx, func(ctx context.Context) error {
				existing[index.collection] = indexesOf(ctx, index.collection)
				return nil
			})
		}
		if slices.Equal(existing[index.collection][index.name], index.fields) {
			continue
		}
		var keys bson.D
		for _, field := range index.fields {
			keys = append(keys, bson.E{Key: field, Value: 1})
		}
		s.logger.Info("creating an index; this takes as long as there is data", "collection", index.collection.Name(), "index", index.name)
		model := mongo.IndexModel{Keys: keys, Options: index.options.SetName(index.name)}
		if _, err := index.collection.Indexes().CreateOne(ctx, model); err != nil {
			return fmt.Errorf("creating an index on %s: %w", index.collection.Name(), err)
		}
	}
	return nil
}

// indexesOf returns the fields of the indexes that a collection has, by name;
// none when that cannot be found out, which creating them will tell.
func indexesOf(ctx context.Context, c *mongo.Collection) map[string][]string {
	fields := make(map[string][]string)
	specs, err := c.Indexes().ListSpecifications(ctx)
	if err != nil {
		return fields
	}
	for _, spec := range specs {
		elements, err := spec.KeysDocument.Elements()
		if err != nil {
			continue
		}
		for _, e := range elements {
			fields[spec.Name] = append(fields[spec.Name], e.Key())
		}
	}
	return fields
}

// findEpoch reads the epoch, or makes it. Of several servers that start at
// once one makes it.
func (s *Store) findEpoch(ctx context.Context) error {
	var row struct {
		Value string `bson:"v"`
	}
	err := s.meta.FindOne(ctx, byID("epoch")).Decode(&row)
	if errors.Is(err, mongo.ErrNoDocuments) {
		_, err = s.meta.InsertOne(ctx, bson.D{{Key: "_id", Value: "epoch"}, {Key: "v", Value: rand.Text()}})
		if err == nil || mongo.IsDuplicateKeyError(err) {
			err = s.meta.FindOne(ctx, byID("epoch")).Decode(&row)
		}
	}
	s.epoch = row.Value
	return err
}

// Epoch implements [inbox.Store].
func (s *Store) Epoch(context.Context) (string, error) { return s.epoch, nil }

// Close answers every Append that waits, within about one time-out, and
// disconnects. No other call may run meanwhile.
func (s *Store) Close() error {
	s.appender.close()
	s.reads.close()
	s.writes.close()
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	if err := s.client.Disconnect(ctx); err != nil && !errors.Is(err, mongo.ErrClientDisconnected) {
		return err
	}
	return nil
}
