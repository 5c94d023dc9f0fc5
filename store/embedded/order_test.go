package embedded

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
)

func TestOrder(t *testing.T) {
	var o order
	for _, c := range []struct{ logs, want string }{
		{"a", "[0]"},
		{"aaa", "[0 1 2]"},
		{"ba", "[1 0]"},
		{"abab", "[0 2 1 3]"},
		{"cabbac", "[1 4 2 3 0 5]"},
	} {
		var entries []entry
		for _, log := range strings.Split(c.logs, "") {
			entries = append(entries, entry{log: envelope.NodeID(log).Address()})
		}
		if got := fmt.Sprint(o.of(entries)); got != c.want {
			t.Errorf("%s: %s, want %s", c.logs, got, c.want)
		}
	}
}

// staging returns a committer that does not run, what puts a message into its next
// batch, and what has been answered.
func staging(t *testing.T, s *Store) (c *committer, stage func(log envelope.Address, id, payload string), answered *[]string) {
	t.Helper()
	c, err := s.newCommitter()
	if err != nil {
		t.Fatal(err)
	}
	answered = new([]string)
	return c, func(log envelope.Address, id, payload string) {
		env := message(id)
		env.Body = []byte(`"payload":"` + payload + `"`)
		c.next.entries = append(c.next.entries, entry{
			log: log, env: env, digest: env.Digest(), hash: s.idHash(log, env.SrcNode, id), done: func(seq uint64, err error) {
				*answered = append(*answered, fmt.Sprint(seq, envelope.CodeOf(err)))
			},
		})
	}, answered
}

// What is staged together lies in the order of logs, without stubs between, and each
// entry has the outcome of its own.
func TestStagedByLog(t *testing.T) {
	s := inMemory(t, Options{})
	c, stage, answered := staging(t, s)
	stage(room, "a", "x")
	stage(hall, "a", "x")
	stage(room, "b", "x")
	stage(hall, "a", "y") // another message
	stage(room, "a", "x")
	stage(hall, "c", "x")
	stage(room, "c", "x")
	c.begin()
	c.stageEntries()
	c.next.answer()
	if got := fmt.Sprint(*answered); got != "[1 1 2 0conflict 1 2 3]" {
		t.Errorf("answered %s", got)
	}
	if err := c.next.join(); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for r := c.next.rows.Reader(); ; {
		kind, key, _, ok, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		switch {
		case kind == pebble.InternalKeyKindLogData || key[0] == rowLog:
		case key[0] == rowStub:
			keys = append(keys, "stub")
		default:
			log, _ := cutAddress(key[len(appendSegment(nil, 1))+1:])
			keys = append(keys, fmt.Sprint(log.ID, seqOf(key)))
		}
	}
	if got := fmt.Sprint(keys); got != "[hall1 hall2 room1 room2 room3 stub stub stub stub stub]" {
		t.Errorf("rows %s", got)
	}
	c.next.close()
	mustClose(t, s)
}

// A batch that came back while something else was done has not taken too long.
func TestBackInTime(t *testing.T) {
	s := inMemory(t, Options{})
	c, stage, answered := staging(t, s)
	stage(room, "a", "x")
	c.begin()
	c.stageEntries()
	b := c.next
	c.flight, c.next = b, c.fresh()
	b.close()
	c.written <- nil
	c.outOfTime()
	if got := fmt.Sprint(*answered); got != "[1]" {
		t.Errorf("answered %s", got)
	}
	mustClose(t, s)
}

// However a batch is put together, each log is numbered as its messages came, and
// all are answered in that order.
func TestAnswersInOrder(t *testing.T) {
	heldUp(t, Options{}, func(t *testing.T, s *Store, _ *faultFS, _ <-chan outcome, release func()) {
		var got, want []string
		send := func(log envelope.Address, id string, seq uint64) {
			want = append(want, fmt.Sprint(log.ID, id, seq))
			s.Append(log, message(id), func(seq uint64, err error) {
				got = append(got, fmt.Sprint(log.ID, id, seq))
				if err != nil {
					t.Error(err)
				}
			})
		}
		for i := range uint64(100) {
			send(room, fmt.Sprint("a", i), i+2) // behind the one that is held up
			send(hall, fmt.Sprint("a", i), i+1)
			if i > 0 {
				send(hall, fmt.Sprint("a", i-1), i) // again
			}
		}
		release()
		synctest.Wait()
		if !slices.Equal(got, want) {
			t.Errorf("answered %v\nwant %v", got, want)
		}
		mustClose(t, s)
	})
}
