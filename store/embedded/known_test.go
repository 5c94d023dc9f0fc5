package embedded

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// mustRepeat appends what mustAppend has and wants the same seqs.
func mustRepeat(t *testing.T, s *Store, log envelope.Address, n int) {
	t.Helper()
	for i := range n {
		if o := <-send(s, log, fmt.Sprint(log.ID, i)); o.err != nil || o.seq != uint64(i+1) {
			t.Fatalf("message %d is stored again: %+v", i, o)
		}
	}
}

// A repetition is recognised whatever of the ids is in memory.
func TestRepetitions(t *testing.T) {
	const n = 300
	for name, bytes := range map[string]int{
		"no filter":        -1,
		"renewed often":    2 * blockBytes, // has room for 42
		"renewed at times": 8 * blockBytes,
		"large":            0,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := inMemory(t, Options{FilterBytes: bytes})
				for _, wait := range []func(){func() {}, synctest.Wait} { // beside a walk, and after it
					mustAppend(t, s, room, n)
					mustRepeat(t, s, room, n)
					mustClose(t, s)
					s = openWith(t, s.options)
					wait()
					mustRepeat(t, s, room, n)
					mustAppend(t, s, hall, n)
					mustRepeat(t, s, hall, n)
					mustRepeat(t, s, room, n)
				}
				mustClose(t, s)
			})
		})
	}
}

// The database is asked only about repetitions and by rare mistakes, also
// about what was there when the store was opened.
func TestNewMessagesAreNotLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inMemory(t, Options{})
		synctest.Wait() // for the walk
		mustAppend(t, s, room, 1000)
		mustClose(t, s)
		s = openWith(t, s.options)
		synctest.Wait()
		mustAppend(t, s, hall, 1000)
		mustRepeat(t, s, room, 100)
		st := s.Stats()
		if st.Fresh < 990 || st.Repeated != 100 || st.Asked > 110 || st.Fresh+st.Asked != 1100 || st.FilterBytes != 2*firstLayer {
			t.Errorf("%+v", st)
		}
		mustClose(t, s)
	})
}

// A filter that was too small comes back when enough is forgotten.
func TestFilterComesBack(t *testing.T) {
	const fits = 4 * blockIDs
	synctest.Test(t, func(t *testing.T) {
		s := inMemory(t, Options{FilterBytes: 2 * 4 * blockBytes})
		mustAppend(t, s, room, 3*fits)
		mustClose(t, s)
		s = openWith(t, s.options)
		synctest.Wait()
		mustAppend(t, s, hall, 1)
		if st := s.Stats(); st.FilterBytes != 0 {
			t.Fatalf("more than fits is in memory: %+v", st)
		}
		if err := s.Trim(t.Context(), room, 3*fits-10, time.UnixMilli(2)); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, s, hall, 1) // another walk begins
		synctest.Wait()
		before := s.Stats()
		mustAppend(t, s, hall, 20)
		synctest.Wait()
		after := s.Stats()
		if after.Fresh-before.Fresh < 15 {
			t.Errorf("new messages are still looked up: %+v, then %+v", before, after)
		}
		mustRepeat(t, s, hall, 20)
		mustClose(t, s)
	})
}

// Damage where a walk comes by costs the walk and nothing else.
func TestWalkOverDamage(t *testing.T) {
	s := openIn(t, t.TempDir())
	mustAppend(t, s, room, 2000)
	mustClose(t, s)
	all := files(t, s.options.Dir, "")
	largest := ""
	for name, data := range all {
		if strings.HasSuffix(name, ".sst") && len(data) > len(all[largest]) {
			largest = name
		}
	}
	s = openIn(t, written(t, flipped(all, largest, len(all[largest])*3/4))) // stubs come behind the entries
	r := &recollection{}
	s.walkStubs(r, 1<<20)
	if !r.failed.Load() || r.walked.Load() != nil {
		t.Error("the walk has not noticed")
	}
	mustClose(t, s)
}
