package mongo_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/internal/mongotest"
	"github.com/allsparkrt/allspark/session"
	"github.com/allsparkrt/allspark/store/mongo"
)

var room = envelope.SessionID("room").Address()

// openAll opens n stores on one new database.
func openAll(t testing.TB, n int, o mongo.Options) []inbox.Store {
	t.Helper()
	stores := make([]inbox.Store, n)
	for i := range stores {
		s := openWith(t, o)
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		stores[i] = s
	}
	return stores
}

func TestThreeStoresOneLog(t *testing.T) {
	stores := openAll(t, 3, mongo.Options{URI: mongotest.URI(t), Database: mongotest.Database(t), Timeout: 30 * time.Second})
	l := load{log: room, senders: 9, each: 30}
	l.run(t, stores...)
	for _, s := range stores {
		l.check(t, s)
	}
	if l.busy > 0 {
		t.Errorf("%d appends were refused", l.busy)
	}
}

// TestFaultsUnderLoad holds that whatever goes wrong on the way, every message
// is stored once and in order. The driver's own repetitions are tried with and
// without.
func TestFaultsUnderLoad(t *testing.T) {
	server := mongotest.Start(t)
	for _, fault := range []mongotest.Fault{
		{Kind: mongotest.ReplyLost, Probability: 0.15},
		{Kind: mongotest.Unreachable, Probability: 0.2},
		{Kind: mongotest.NotPrimary, Probability: 0.15},
		{Kind: mongotest.WriteConcern, Probability: 0.3},
		{Kind: mongotest.Stall, Probability: 0.1, DelayMS: 700},
		{Kind: mongotest.Cut, Probability: 0.15},
	} {
		for _, retry := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/retryWrites=%v", fault.Kind, retry), func(t *testing.T) {
				// A stall outlasts one try, and now and then a whole batch.
				stores := openAll(t, 3, mongo.Options{
					URI: fmt.Sprintf("%s&retryWrites=%v", server.URI, retry), Database: fmt.Sprintf("%s_%v", fault.Kind, retry),
					Timeout: 1200 * time.Millisecond,
				})
				fault.Collections = []string{"messages"}
				fault.Seed = 1
				server.Inject(fault)
				l := load{log: room, senders: 6, each: 6}
				l.run(t, stores...)
				cleared := server.ClearFaults()
				if cleared[0].Fired == 0 {
					t.Error("the fault never hit")
				}
				l.check(t, stores[0])
				t.Logf("%d of %d commands hit, %d appends refused", cleared[0].Fired, cleared[0].Seen, l.busy)
			})
		}
	}
}

// TestFaultsOnUpdates holds that a write which was repeated because its outcome
// was unknown is not taken for somebody else's.
func TestFaultsOnUpdates(t *testing.T) {
	server := mongotest.Start(t)
	for _, kind := range []mongotest.Kind{
		mongotest.ReplyLost, mongotest.Unreachable, mongotest.NotPrimary, mongotest.WriteConcern, mongotest.Cut,
	} {
		t.Run(string(kind), func(t *testing.T) {
			s := openWith(t, mongo.Options{URI: server.URI + "&retryWrites=false", Database: "updates_" + string(kind)})
			defer func() { _ = s.Close() }()
			breakUpdates(t, server, kind, s)
		})
	}
}

func breakUpdates(t *testing.T, server *mongotest.Server, kind mongotest.Kind, s *opened) {
	t.Helper()
	ctx := t.Context()
	record := graph.Record{ID: "server", Boot: "boot1"}
	next := graph.Record{ID: "server", Boot: "boot2"}
	member := session.Member{Session: "room", Node: "bob", Device: "bob", State: session.Joining, Op: "op", Version: 1}
	joined := member
	joined.State, joined.Spans, joined.Version = session.Joined, []session.Span{{From: 1}}, 2
	updated := session.Session{ID: "room", Token: "t", Owner: "bob", Version: 1}
	edge := graph.Edge{Addr: room, Server: "server", Boot: "boot2", Gen: 1}
	log := envelope.SessionID("trimmed").Address()
	for i := range 6 {
		if o := appendOne(s, log, at(message("alice", fmt.Sprint(i+1)), int64(i+1))); o.err != nil {
			t.Fatal(o.err)
		}
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"claim", func() error { return s.Claim(ctx, record, "") }},
		{"take over", func() error { return s.Claim(ctx, next, record.Boot) }},
		{"renew", func() error { return s.Renew(ctx, next) }},
		{"put edges", func() error { return s.PutEdges(ctx, []graph.Edge{edge}) }},
		{"delete edges", func() error { return s.DeleteEdges(ctx, []graph.Edge{edge}) }},
		{"drop edges", func() error { return s.DropEdges(ctx, "server", "boot2") }},
		{"release", func() error { return s.Release(ctx, "server", "boot2") }},
		{"create", func() error { return s.Create(ctx, session.Session{ID: "room", Token: "t"}) }},
		{"update session", func() error { return s.UpdateSession(ctx, updated) }},
		{"join", func() error { return s.PutMember(ctx, member) }},
		{"joined", func() error { return s.PutMember(ctx, joined) }},
		{"advance", func() error {
			return s.Advance(ctx, []inbox.Cursor{{Node: "bob", Log: room, Delivered: 1}})
		}},
		{"sighting", func() error {
			return s.PutSightings(ctx, []graph.Sighting{{Addr: room, At: 7}})
		}},
		{"trim", func() error { return s.Trim(ctx, log, 5, time.UnixMilli(0)) }},
		{"forget", func() error { return s.Trim(ctx, log, 5, time.UnixMilli(3)) }},
	} {
		server.Inject(mongotest.Fault{Kind: kind, Commands: []string{"insert", "update", "delete"}, Count: 1})
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		if cleared := server.ClearFaults(); cleared[0].Fired != 1 {
			t.Errorf("%s: the fault never hit", step.name)
		}
	}
	for name, try := range map[string]struct{ err, want error }{
		"create":    {s.Create(ctx, session.Session{ID: "room", Token: "t"}), session.ErrExists},
		"update":    {s.UpdateSession(ctx, updated), session.ErrChanged},
		"join":      {s.PutMember(ctx, member), session.ErrChanged},
		"joined":    {s.PutMember(ctx, joined), session.ErrChanged},
		"renew":     {s.Renew(ctx, next), graph.ErrTakenOver},
		"take over": {s.Claim(ctx, next, record.Boot), graph.ErrTakenOver},
	} {
		if !errors.Is(try.err, try.want) {
			t.Errorf("%s again: %v, want %v", name, try.err, try.want)
		}
	}
	checkUpdates(t, s, log)
}

// checkUpdates looks at what breakUpdates has left.
func checkUpdates(t *testing.T, s *opened, log envelope.Address) {
	t.Helper()
	ctx := t.Context()
	if edges, err := s.Edges(ctx, room); err != nil || len(edges) != 0 {
		t.Errorf("edges %+v, %v", edges, err)
	}
	if servers, err := s.Servers(ctx); err != nil || len(servers) != 0 {
		t.Errorf("servers %+v, %v", servers, err)
	}
	if readers, err := s.Readers(ctx, room, 10); err != nil || len(readers) != 1 || readers[0].Delivered != 1 {
		t.Errorf("readers %+v, %v", readers, err)
	}
	if seen, err := s.Sightings(ctx, room); err != nil || len(seen) != 1 || seen[0].At != 7 {
		t.Errorf("sightings %+v, %v", seen, err)
	}
	if x, err := s.Extent(ctx, log); err != nil || x.Floor != 5 || x.Head != 6 {
		t.Errorf("extent %+v, %v", x, err)
	}
	for i, want := range []uint64{0, 0, 3, 4, 5, 6} {
		if found, err := s.Find(ctx, log, "alice", fmt.Sprint(i+1)); err != nil || found.Seq != want {
			t.Errorf("message %d: %+v, %v", i+1, found, err)
		}
	}
}

func TestUnreachableAtOpen(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := listener.Addr().String()
	_ = listener.Close()
	for _, test := range []struct{ uri, names string }{
		{"mongodb://user:hunter2%40x@" + host + "/?directConnection=true", host},
		{"mongodb://user:hunter2@" + host + "/?w=broken&connectTimeoutMS=x", "connectTimeoutMS"},
		{"mongodb://user:hunter2@x@:" + host, "URI"},
		{"postgres://user:hunter2@" + host, "URI"},
	} {
		s, err := mongo.Open(t.Context(), mongo.Options{URI: test.uri, Timeout: 300 * time.Millisecond})
		if err == nil {
			_ = s.Close()
			t.Fatalf("%s could be opened", test.uri)
		}
		if !strings.Contains(err.Error(), test.names) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error is %q, want it to name %q and no password", err, test.names)
		}
	}
}

func TestDatabaseRestarts(t *testing.T) {
	server := mongotest.Start(t)
	s := openAll(t, 1, mongo.Options{URI: server.URI, Timeout: time.Second})[0]
	if o := appendOne(s, room, message("alice", "1")); o.err != nil || o.seq != 1 {
		t.Fatal(o)
	}
	server.Kill()
	if o := appendOne(s, room, message("alice", "2")); envelope.CodeOf(o.err) != envelope.Busy {
		t.Fatalf("without a database an append gives %+v", o)
	} else if envelope.AsError(o.err).RetryMS == 0 {
		t.Error("Busy says nothing of when to try again")
	}
	if _, err := s.Read(t.Context(), room, 0, 10, 1<<20); envelope.CodeOf(err) != envelope.Busy {
		t.Fatalf("without a database Read gives %v", err)
	}
	server.Restart()
	l := load{log: room, acks: map[uint64]string{}}
	for _, id := range []string{"2", "3"} {
		if err := l.send(t, s, message("alice", id)); err != nil {
			t.Fatal(err)
		}
	}
	page, err := s.Read(t.Context(), room, 0, 10, 1<<20)
	if err != nil || len(page) != 3 {
		t.Fatal(page, err)
	}
	for i, e := range page {
		if e.ID != fmt.Sprint(i+1) {
			t.Errorf("entry %d is %s", i+1, e.ID)
		}
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	s := openAll(t, 1, mongo.Options{URI: mongotest.URI(t), Database: mongotest.Database(t)})[0]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Heads(ctx, map[envelope.Address]uint64{room: 0}); envelope.CodeOf(err) != envelope.Busy {
		t.Errorf("Heads gives %v", err)
	}
}

// An index over a collection that is large already takes longer than a call may.
func TestSlowIndex(t *testing.T) {
	server := mongotest.Start(t)
	server.Inject(mongotest.Fault{Kind: mongotest.Stall, Commands: []string{"createIndexes"}, Collections: []string{"jobs"}, DelayMS: 1500})
	s, err := mongo.Open(t.Context(), mongo.Options{URI: server.URI, Database: "slow_index", Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if fired := server.ClearFaults()[0].Fired; fired == 0 {
		t.Error("no index was slow")
	}
}
