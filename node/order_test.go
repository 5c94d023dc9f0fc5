package node

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// refuseSome makes the store refuse appends at random, and then all others to
// that log for a while, as a Store does that fails.
func refuseSome(r *rand.Rand) func(envelope.Address, string) error {
	var mu sync.Mutex
	var until time.Time
	return func(envelope.Address, string) error {
		mu.Lock()
		defer mu.Unlock()
		if time.Now().Before(until) {
			return errAway
		}
		if r.IntN(5) == 0 {
			until = time.Now().Add(time.Duration(r.IntN(20)) * time.Millisecond)
			return errAway
		}
		return nil
	}
}

// shared tells servers whether others append to the same store.
func shared(is bool) func(*Config) { return func(c *Config) { c.SharedStore = is } }

// A client that does not wait for answers ends with first sent, first
// numbered, although some of its messages are refused for now.
func TestPipelinedOrder(t *testing.T) {
	for i, seed := range seeds(t, 8) {
		inMeshOf(t, 3, shared(i%2 == 0), func(t *testing.T, m *mesh) {
			r := rand.New(rand.NewPCG(seed, 0))
			alice := m.client("alice", "a").connected(m)
			for _, s := range m.servers {
				s.store.set(func(f *faultyStore) { f.append = refuseSome(rand.New(rand.NewPCG(seed, 1))) })
			}
			seqs := make([]uint64, 200)
			var wg sync.WaitGroup
			for i := range seqs {
				wg.Add(1)
				err := alice.SendAsync(t.Context(), to(deviceAddr("bob"), fmt.Sprint(i), ""), func(a client.Ack, err error) {
					seqs[i] = a.Seq
					wg.Done()
				})
				if err != nil {
					t.Fatal(err)
				}
				if r.IntN(4) == 0 {
					time.Sleep(time.Duration(r.IntN(10)) * time.Millisecond)
				}
			}
			wg.Wait()
			if !slices.IsSorted(seqs) || seqs[0] != 1 || seqs[199] != 200 {
				t.Errorf("seed %d: %v", seed, seqs)
			}
		})
	}
}

// After a refusal the later messages to that address are refused until that
// one has come again; a sender that gives it up is let through after 10 s.
func TestGate(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		r := m.raw("alice", "a")
		r.hello("")
		r.control("caught_up")
		send := func(id, dest, answer string, code envelope.Code) {
			t.Helper()
			r.send(fmt.Sprintf(`{"id":%q,"dest_id":%q}`, id, dest))
			if c := r.control(answer); c.ID != id || c.Code != code || code == envelope.Busy && c.RetryMS == 0 {
				t.Errorf("%s got %+v", id, c)
			}
		}
		refuse := true
		m.at("a").store.set(func(f *faultyStore) {
			f.append = func(envelope.Address, string) error {
				if refuse {
					return errAway
				}
				return nil
			}
		})
		send("1", "bob", "nack", envelope.Busy)
		m.at("a").store.set(func(*faultyStore) { refuse = false })
		send("2", "bob", "nack", envelope.Busy)
		send("3", "other", "ack", "")
		send("1", "bob", "ack", "")
		send("2", "bob", "ack", "")

		m.at("a").store.set(func(*faultyStore) { refuse = true })
		send("4", "bob", "nack", envelope.Busy)
		m.at("a").store.set(func(*faultyStore) { refuse = false })
		time.Sleep(gateTime - time.Millisecond)
		send("5", "bob", "nack", envelope.Busy)
		time.Sleep(2 * time.Millisecond)
		send("5", "bob", "ack", "")
	})
}

// The same while the server that appends for the others is cut off or dies.
func TestPipelinedOrderWithoutOwner(t *testing.T) {
	for _, end := range []func(m *mesh){
		func(m *mesh) { m.kill("b") },
		func(m *mesh) { m.cut("a", "b") },
	} {
		inMeshOf(t, 2, shared(true), func(t *testing.T, m *mesh) {
			alice := m.client("alice", "a").connected(m)
			owned := "" // a device whose log b owns
			for i := 0; owned == ""; i++ {
				if id := fmt.Sprint("bob", i); m.at("a").owners.owner(deviceAddr(id)) != nil {
					owned = id
				}
			}
			seqs := make([]uint64, 300)
			var wg sync.WaitGroup
			for i := range seqs {
				wg.Add(1)
				err := alice.SendAsync(t.Context(), to(deviceAddr(owned), fmt.Sprint(i), ""), func(a client.Ack, err error) {
					if err != nil {
						t.Error(err)
					}
					seqs[i] = a.Seq
					wg.Done()
				})
				if err != nil {
					t.Fatal(err)
				}
				if i == 150 {
					time.Sleep(time.Millisecond)
					end(m)
				}
			}
			wg.Wait()
			if !slices.IsSorted(seqs) || seqs[299] != 300 {
				t.Errorf("%v", seqs)
			}
			if m.at("a").Stats().Forwarded.Load() == 0 {
				t.Error("nothing was forwarded")
			}
		})
	}
}
