package node

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// seeds returns n random seeds, and prints them. ALLSPARK_TEST_SEED makes it
// one given seed, ALLSPARK_TEST_SEEDS another number of them.
func seeds(t *testing.T, n int) []uint64 {
	t.Helper()
	number := func(name string) (n uint64, given bool) {
		if value := os.Getenv(name); value != "" {
			var err error
			if n, err = strconv.ParseUint(value, 10, 64); err != nil {
				t.Fatal(err)
			}
			given = true
		}
		return n, given
	}
	if seed, given := number("ALLSPARK_TEST_SEED"); given {
		return []uint64{seed}
	}
	if more, given := number("ALLSPARK_TEST_SEEDS"); given {
		n = int(more)
	}
	all := make([]uint64, n)
	for i := range all {
		all[i] = rand.Uint64()
	}
	t.Logf("seeds %d", all)
	return all
}

// slowly makes every call of a server's store take up to most, and random.
func (s *server) slowly(r *rand.Rand, most time.Duration) {
	own := rand.New(rand.NewPCG(r.Uint64(), 1))
	s.store.set(func(f *faultyStore) {
		f.delay = func(string) time.Duration {
			f.mu.Lock()
			defer f.mu.Unlock()
			return time.Duration(own.Int64N(int64(most)))
		}
	})
}

// A message sent at whatever point of a device's connecting arrives soon, not
// by the slow sweep.
func TestNoLostWakeUp(t *testing.T) {
	for _, seed := range seeds(t, 12) {
		inMeshOf(t, 2, func(c *Config) { c.Timing.Sweep = 24 * time.Hour }, func(t *testing.T, m *mesh) {
			r := rand.New(rand.NewPCG(seed, 0))
			alice := m.client("alice", "a").connected(m)
			m.at("a").slowly(r, 100*time.Millisecond)
			m.at("b").slowly(r, 100*time.Millisecond)
			for n := 0; n < 20; {
				bob := m.client("bob", "ab"[r.IntN(2):][:1])
				first := n
				for range 4 {
					time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
					alice.send(to(deviceAddr("bob"), fmt.Sprint(n), fmt.Sprint(n)))
					n++
				}
				m.within(5*time.Second, fmt.Sprintf("all from %d to %d arrived (seed %d)", first, n, seed), func() bool {
					got := bob.texts() // what the last one acknowledged at the end may come again
					return slices.Equal(got[max(0, len(got)-(n-first)):], numbers(first, n))
				})
				bob.close()
			}
		})
	}
}

// A device hears of a session it joins by an HTTP call at another server,
// whatever its connection is doing then.
func TestJoinWhileConnecting(t *testing.T) {
	for _, seed := range seeds(t, 12) {
		inMeshOf(t, 2, func(c *Config) { c.Timing.Sweep = 24 * time.Hour }, func(t *testing.T, m *mesh) {
			r := rand.New(rand.NewPCG(seed, 0))
			alice := m.client("alice", "a").connected(m)
			m.at("a").slowly(r, 100*time.Millisecond)
			m.at("b").slowly(r, 100*time.Millisecond)
			for n := range 5 {
				id := fmt.Sprint("room", n)
				if _, err := alice.CreateSession(t.Context(), roomID(id), envelope.Settings{}); err != nil {
					t.Fatal(err)
				}
				bob := m.device("bob", fmt.Sprint("bob", n), "b")
				time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond)
				elsewhere := m.api("bob", fmt.Sprint("bob", n), "a")
				if _, err := elsewhere.JoinSession(t.Context(), roomID(id)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond)
				alice.send(to(room(id), fmt.Sprint(n), "hi"))
				m.within(5*time.Second, fmt.Sprintf("it arrived (seed %d)", seed), func() bool {
					return slices.Equal(bob.texts(), []string{"hi"})
				})
			}
		})
	}
}
