package mongo_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/internal/mongotest"
	"github.com/allsparkrt/allspark/store/mongo"
)

// resend appends until the answer is another than Busy.
func resend(t *testing.T, s inbox.Store, env *envelope.Envelope) outcome {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		o := appendOne(s, room, env)
		if envelope.CodeOf(o.err) != envelope.Busy || time.Now().After(deadline) {
			return o
		}
		pause(t, 20*time.Millisecond)
	}
}

func sizes(page []envelope.Envelope) (sum int64) {
	for i := range page {
		sum += inbox.Size(&page[i])
	}
	return sum
}

// TestOutage holds that while the database is away everything is refused at
// once, and that it works again soon after the database does.
func TestOutage(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(*mongotest.Server) // of the database
		back func(*mongotest.Server)
	}{
		{"killed", (*mongotest.Server).Kill, (*mongotest.Server).Restart},
		{
			"silent",
			func(s *mongotest.Server) {
				s.Inject(mongotest.Fault{Kind: mongotest.Stall, DelayMS: 1500})
			},
			func(s *mongotest.Server) { s.ClearFaults() },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := mongotest.Start(t)
			s := openWith(t, mongo.Options{URI: server.URI, Timeout: 600 * time.Millisecond})
			defer func() { _ = s.Close() }()
			if o := appendOne(s, room, message("alice", "1")); o.err != nil {
				t.Fatal(o.err)
			}
			test.end(server)
			for range 3 {
				if o := appendOne(s, room, message("alice", "2")); envelope.CodeOf(o.err) != envelope.Busy {
					t.Fatalf("without a database an append gives %+v", o)
				}
				if _, err := s.Heads(t.Context(), map[envelope.Address]uint64{room: 0}); envelope.CodeOf(err) != envelope.Busy {
					t.Fatalf("without a database Heads gives %v", err)
				}
			}
			before := s.Stats()
			if before.Outages != 2 { // of reads and of writes
				t.Fatalf("%+v", before)
			}
			began := time.Now()
			const calls = 50
			for range calls {
				if o := appendOne(s, room, message("alice", "2")); envelope.CodeOf(o.err) != envelope.Busy || envelope.AsError(o.err).RetryMS == 0 {
					t.Fatalf("without a database an append gives %+v", o)
				}
				if err := s.Advance(t.Context(), []inbox.Cursor{{Node: "bob", Log: room, Delivered: 1}}); envelope.CodeOf(err) != envelope.Busy {
					t.Fatalf("without a database Advance gives %v", err)
				}
				if _, err := s.Read(t.Context(), room, 0, 1, 1); envelope.CodeOf(err) != envelope.Busy {
					t.Fatalf("without a database Read gives %v", err)
				}
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("%d refusals took %v", 3*calls, took)
			}
			if refused := s.Stats().Refused - before.Refused; refused != 3*calls {
				t.Errorf("%d refusals were counted of %d", refused, 3*calls)
			}

			test.back(server)
			began = time.Now()
			if o := resend(t, s, message("alice", "2")); o.err != nil || o.seq != 2 {
				t.Errorf("with the database back an append gives %+v", o)
			}
			for {
				page, err := s.Read(t.Context(), room, 0, 10, 1<<20)
				if envelope.CodeOf(err) == envelope.Busy && time.Since(began) < 30*time.Second {
					pause(t, 20*time.Millisecond)
					continue
				}
				if err != nil || len(page) != 2 {
					t.Errorf("%d entries, %v", len(page), err)
				}
				break
			}
			took := time.Since(began)
			t.Logf("back after %v", took)
			if limit := 10 * time.Second; took > limit {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestKillsUnderLoad kills the database again and again while three servers
// write to one log.
func TestKillsUnderLoad(t *testing.T) {
	server := mongotest.Start(t)
	stores := openAll(t, 3, mongo.Options{URI: server.URI, Timeout: time.Second})
	l := load{log: room, senders: 6, each: 25}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.run(t, stores...)
	}()
	for range 3 {
		pause(t, 150*time.Millisecond)
		server.Kill()
		pause(t, 300*time.Millisecond)
		server.Restart()
	}
	<-ended
	l.check(t, stores[0])
	t.Logf("%d appends refused", l.busy)
}

// TestFullDatabase holds that a database without space refuses writes at once
// and no reads, and that nobody has to do anything when it has space again.
func TestFullDatabase(t *testing.T) {
	server := mongotest.Start(t)
	s := openWith(t, mongo.Options{URI: server.URI, Timeout: 10 * time.Second})
	defer func() { _ = s.Close() }()
	if o := appendOne(s, room, message("alice", "1")); o.err != nil {
		t.Fatal(o.err)
	}
	server.Inject(mongotest.Fault{Kind: mongotest.DiskFull})
	began := time.Now()
	for range 5 {
		if o := appendOne(s, room, message("alice", "2")); envelope.CodeOf(o.err) != envelope.Busy || envelope.AsError(o.err).RetryMS == 0 {
			t.Fatalf("in a full database an append gives %+v", o)
		}
		if err := s.Advance(t.Context(), []inbox.Cursor{{Node: "bob", Log: room, Delivered: 1}}); envelope.CodeOf(err) != envelope.Busy {
			t.Fatalf("in a full database Advance gives %v", err)
		}
		if page, err := s.Read(t.Context(), room, 0, 10, 1<<20); err != nil || len(page) != 1 {
			t.Fatalf("from a full database Read gives %d entries, %v", len(page), err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v to be refused", took)
	}
	if st := s.Stats(); st.NoSpace != 5 || st.Outages != 0 || st.Away != 0 {
		t.Errorf("%+v", st)
	}
	server.ClearFaults()
	for id := range uint64(3) {
		if o := appendOne(s, room, message("alice", fmt.Sprint(id+1))); o.err != nil || o.seq != id+1 {
			t.Errorf("with space again message %d gives %+v", id+1, o)
		}
	}
}
