package mongo_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/internal/mongotest"
	"github.com/allsparkrt/allspark/store/mongo"
)

// TestAmbiguousReplies holds that whatever becomes of the reply to an insert,
// and of the look-up that follows, three messages handed over at once end as
// three entries, each under the seq it was acknowledged with.
func TestAmbiguousReplies(t *testing.T) {
	server := mongotest.Start(t)
	hit := func(kind mongotest.Kind, command string, count int) mongotest.Fault {
		f := mongotest.Fault{Kind: kind, Commands: []string{command}, Collections: []string{"messages"}, Count: count}
		if kind == mongotest.Stall {
			f.DelayMS = 2100 // longer than one try waits: it is carried out when nobody waits for it
		}
		return f
	}
	for i, test := range []struct {
		name   string
		faults []mongotest.Fault
		busy   bool // the first time
	}{
		{"reply lost", []mongotest.Fault{hit(mongotest.ReplyLost, "insert", 1)}, false},
		{"reply lost, and of the look-up", []mongotest.Fault{hit(mongotest.ReplyLost, "insert", 1), hit(mongotest.ReplyLost, "find", 1)}, false},
		{"unreachable", []mongotest.Fault{hit(mongotest.Unreachable, "insert", 1)}, false},
		{"unreachable twice", []mongotest.Fault{hit(mongotest.Unreachable, "insert", 2)}, false},
		{"unreachable, look-up not answered", []mongotest.Fault{hit(mongotest.Unreachable, "insert", 1), hit(mongotest.NotPrimary, "find", 1)}, false},
		{"not primary", []mongotest.Fault{hit(mongotest.NotPrimary, "insert", 1)}, false},
		{"not primary, then not confirmed", []mongotest.Fault{hit(mongotest.NotPrimary, "insert", 1), hit(mongotest.WriteConcern, "insert", 1)}, false},
		{"not confirmed", []mongotest.Fault{hit(mongotest.WriteConcern, "insert", 1)}, false},
		{"not confirmed for long", []mongotest.Fault{hit(mongotest.WriteConcern, "insert", 5)}, false},
		{"cut", []mongotest.Fault{hit(mongotest.Cut, "insert", 1)}, false},
		{"cut, head not answered", []mongotest.Fault{hit(mongotest.Cut, "insert", 1), hit(mongotest.Cut, "find", 1)}, false},
		{"carried out late", []mongotest.Fault{hit(mongotest.Stall, "insert", 1)}, false},
		{"carried out late, twice", []mongotest.Fault{hit(mongotest.Stall, "insert", 2)}, true},
		{"full", []mongotest.Fault{hit(mongotest.DiskFull, "insert", 1)}, true},
		{"reply lost, then full", []mongotest.Fault{hit(mongotest.Unreachable, "insert", 1), hit(mongotest.DiskFull, "insert", 1)}, false},
	} {
		for _, retry := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/retryWrites=%v", test.name, retry), func(t *testing.T) {
				s := openAll(t, 1, mongo.Options{
					URI:      fmt.Sprintf("%s&retryWrites=%v", server.URI, retry),
					Database: fmt.Sprintf("ambiguous_%d_%v", i, retry), Timeout: 4 * time.Second,
				})[0]
				for _, f := range test.faults {
					server.Inject(f)
				}
				answers := make(chan outcome, 3)
				for id := range 3 {
					s.Append(room, message("alice", fmt.Sprint(id+1)), func(seq uint64, err error) { answers <- outcome{seq, err} })
				}
				refused := false
				for id := range uint64(3) {
					o := <-answers
					switch {
					case o.err == nil && !refused && o.seq == id+1:
					case envelope.CodeOf(o.err) == envelope.Busy:
						refused = true
					default:
						t.Errorf("message %d: %+v", id+1, o)
					}
				}
				cleared := server.ClearFaults()
				if cleared[0].Fired == 0 {
					t.Error("the fault never hit")
				}
				// The driver's own repetition may already have got through.
				if refused && !test.busy && !strings.Contains(test.name, "full") {
					t.Error("it was refused, though the database was back in time")
				}
				for range 2 {
					for id := range uint64(3) {
						if o := resend(t, s, message("alice", fmt.Sprint(id+1))); o.err != nil || o.seq != id+1 {
							t.Errorf("message %d again: %+v", id+1, o)
						}
					}
				}
				page, err := s.Read(t.Context(), room, 0, 10, 1<<20)
				if err != nil || len(page) != 3 {
					t.Fatalf("%d entries, %v", len(page), err)
				}
				if x, err := s.Extent(t.Context(), room); err != nil || x.Head != 3 || x.Bytes != sizes(page) {
					t.Errorf("extent %+v of %d bytes, %v", x, sizes(page), err)
				}
			})
		}
	}
}
