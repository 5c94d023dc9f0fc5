package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// history is what devices of a random test did and saw.
type history struct {
	mu    sync.Mutex
	acked map[string]uint64                       // texts by acknowledged seq
	order map[envelope.NodeID][]string            // texts acknowledged, in the order sent
	seen  map[envelope.NodeID][]envelope.Envelope // without repetitions
	last  map[envelope.NodeID]uint64
	stays map[envelope.NodeID][][2]uint64 // from the join's seq to the leave's, 0 while in
}

// One session, members that join, leave, rejoin, send, go away and come back
// at other servers, links that break. The checker then decides the promises
// from what the devices noted:
//
//	3  one seq is one message, and rises without holes
//	4  first sent, first numbered
//	6  nothing is seen but of the stays
//	7  nothing of the stays is missing
func TestRandomSession(t *testing.T) {
	for i, seed := range seeds(t, 4) {
		inMeshOf(t, 3, shared(i%2 == 0), func(t *testing.T, m *mesh) {
			h := &history{
				acked: map[string]uint64{}, order: map[envelope.NodeID][]string{}, seen: map[envelope.NodeID][]envelope.Envelope{},
				last: map[envelope.NodeID]uint64{}, stays: map[envelope.NodeID][][2]uint64{},
			}
			if _, err := m.api("owner", "owner", "a").CreateSession(t.Context(), "r", true); err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(seed, 0))
			for _, s := range m.servers {
				s.slowly(r, 20*time.Millisecond)
			}
			var wg sync.WaitGroup
			for i := range 5 {
				own := rand.New(rand.NewPCG(seed, uint64(i+1)))
				id := envelope.NodeID(fmt.Sprint("d", i))
				wg.Go(func() { h.live(t, m, id, own) })
			}
			stop := make(chan struct{})
			go func() { // links break meanwhile
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(r.IntN(10)) * time.Second):
					}
					pair := []string{"ab", "bc", "ac"}[r.IntN(3)]
					m.cut(pair[:1], pair[1:])
					time.Sleep(time.Duration(r.IntN(12)) * time.Second)
					m.heal(pair[:1], pair[1:])
				}
			}()
			wg.Wait()
			close(stop)
			h.check(t, m, seed)
		})
	}
}

// lives is how often a device connects.
const lives = 8

// live is the life of one device.
func (h *history) live(t *testing.T, m *mesh, id envelope.NodeID, r *rand.Rand) {
	call := func(f func(ctx context.Context) error) {
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			err := f(ctx)
			cancel()
			if err == nil {
				return
			}
			time.Sleep(time.Second)
		}
		t.Errorf("%s: a call never succeeded", id)
	}
	in, messages := false, 0
	for n := range lives {
		at := m.ids()[r.IntN(3)]
		h.mu.Lock()
		d := m.client(string(id), at)
		h.mu.Unlock()
		for range r.IntN(12) {
			time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
			api := m.api(string(id), string(id), m.ids()[r.IntN(3)])
			switch {
			case !in:
				call(func(ctx context.Context) error {
					j, err := api.JoinSession(ctx, "r")
					if err == nil {
						h.mu.Lock()
						h.stays[id] = append(h.stays[id], [2]uint64{j.Seq, 0})
						h.mu.Unlock()
					}
					return err
				})
				in = true
			case r.IntN(5) == 0:
				call(func(ctx context.Context) error {
					l, err := api.LeaveSession(ctx, "r")
					if err == nil {
						h.mu.Lock()
						h.stays[id][len(h.stays[id])-1][1] = l.Seq
						h.mu.Unlock()
					}
					return err
				})
				in = false
			default:
				for range 3 {
					messages++
					label := fmt.Sprintf("%s-%d", id, messages)
					call(func(ctx context.Context) error {
						ack, err := d.Send(ctx, to(room("r"), label, label))
						if err == nil {
							h.mu.Lock()
							h.acked[label] = ack.Seq
							h.order[id] = append(h.order[id], label)
							h.mu.Unlock()
						}
						return err
					})
				}
			}
		}
		if n == lives-1 {
			time.Sleep(2 * time.Minute) // whatever was cut is healed and swept
		}
		d.close()
		h.note(t, id, d)
	}
}

// note takes over what a connection of a device received.
func (h *history) note(t *testing.T, id envelope.NodeID, d *device) {
	h.mu.Lock()
	defer h.mu.Unlock()
	prev := uint64(0)
	for _, msg := range d.messages() {
		if msg.Seq <= prev {
			t.Errorf("%s: seq %d after %d in one connection", id, msg.Seq, prev)
		}
		prev = msg.Seq
		if msg.Seq > h.last[id] {
			h.last[id] = msg.Seq
			h.seen[id] = append(h.seen[id], msg.Envelope)
		}
	}
}

func (h *history) check(t *testing.T, m *mesh, seed uint64) {
	var log []envelope.Envelope
	for after := uint64(0); ; {
		page, err := m.store.Read(t.Context(), room("r"), after, 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		log = append(log, page...)
		after = page[len(page)-1].Seq
	}
	bySeq := make(map[uint64]envelope.Envelope)
	for i, e := range log {
		if e.Seq != uint64(i+1) {
			t.Fatalf("seed %d: entry %d has seq %d", seed, i+1, e.Seq)
		}
		bySeq[e.Seq] = e
	}
	for label, seq := range h.acked {
		if e := bySeq[seq]; e.ID != label {
			t.Errorf("seed %d: %s was acknowledged as %d, where %s is", seed, label, seq, e.ID)
		}
	}
	sent := 0
	for id, order := range h.order {
		sent += len(order)
		if !slices.IsSortedFunc(order, func(a, b string) int { return int(h.acked[a]) - int(h.acked[b]) }) {
			for i := 1; i < len(order); i++ {
				if h.acked[order[i]] < h.acked[order[i-1]] {
					t.Errorf("seed %d: %s sent %s (%d) before %s (%d)", seed, id, order[i-1], h.acked[order[i-1]], order[i], h.acked[order[i]])
				}
			}
		}
	}
	for id, stays := range h.stays {
		var want, got []uint64
		for _, e := range log {
			for _, s := range stays {
				if e.SrcNode != id && e.Seq >= s[0] && (s[1] == 0 || e.Seq <= s[1]) {
					want = append(want, e.Seq)
				}
			}
		}
		for _, e := range h.seen[id] {
			got = append(got, e.Seq)
			if e.ID != bySeq[e.Seq].ID {
				t.Errorf("seed %d: %s got %s as %d", seed, id, e.ID, e.Seq)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("seed %d: %s, in during %v, got\n%v, want\n%v", seed, id, stays, got, want)
		}
	}
	if sent == 0 {
		t.Errorf("seed %d: nothing was sent", seed)
	}
}
