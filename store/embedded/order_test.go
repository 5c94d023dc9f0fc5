package embedded

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/allsparkrt/allspark/envelope"
)

func TestOrder(t *testing.T) {
	var o order
	for _, c := range []struct{ logs, want string }{
		{"", "[]"},
		{"a", "[0]"},
		{"aaa", "[0 1 2]"},
		{"ba", "[0 1]"},
		{"abab", "[0 2 1 3]"},
		{"cabbac", "[0 5 1 4 2 3]"},
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
