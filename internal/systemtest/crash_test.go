package systemtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/internal/mongotest"
)

// history is what the devices of a test saw.
type history struct {
	mu       sync.Mutex
	acked    map[pair][]int // message numbers acknowledged
	received map[pair][]int // in the order received
	seqs     map[pair][]uint64
}

// pair is a sender and a receiver.
type pair struct{ from, to string }

func newHistory() *history {
	return &history{acked: make(map[pair][]int), received: make(map[pair][]int), seqs: make(map[pair][]uint64)}
}

func (h *history) acknowledged(p pair, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acked[p] = append(h.acked[p], n)
}

func (h *history) got(to string, m client.Message) error {
	v, ok := m.Member("payload")
	n, err := strconv.Atoi(strings.Trim(string(v), `"`))
	if !ok || err != nil {
		return fmt.Errorf("payload %s", v)
	}
	p := pair{string(m.SrcNode), to}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.received[p] = append(h.received[p], n)
	h.seqs[p] = append(h.seqs[p], m.Seq)
	return nil
}

// missing returns how many acknowledged messages have not been received.
func (h *history) missing() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	missing := 0
	for p, acked := range h.acked {
		got := make(map[int]bool, len(h.received[p]))
		for _, n := range h.received[p] {
			got[n] = true
		}
		for _, n := range acked {
			if !got[n] {
				missing++
			}
		}
	}
	return missing
}

// check reports duplicates and messages out of order.
func (h *history) check(t *testing.T) (acked int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for p, got := range h.received {
		for i := 1; i < len(got); i++ {
			if got[i] <= got[i-1] {
				t.Errorf("%s → %s: %d after %d (seqs %d, %d)", p.from, p.to, got[i], got[i-1], h.seqs[p][i], h.seqs[p][i-1])
			}
		}
	}
	for _, ns := range h.acked {
		acked += len(ns)
	}
	return acked
}

// Each of three servers is killed in turn under load and started again. No
// acknowledged message is lost, none comes twice, none out of order.
//
// The load is small because the stand-in reads whole collections.
func TestKillEachOfThree(t *testing.T) {
	uri, db := mongotest.URI(t), mongotest.Database(t)
	var servers []*server
	for range 3 {
		args := []string{"--mongodb-uri", uri, "--mongodb-database", db}
		if len(servers) > 0 {
			args = append(args, "--join", servers[0].gossip)
		}
		servers = append(servers, newServer(t, args...))
	}
	for _, s := range servers {
		eventually(t, 15*time.Second, func() error { return linked(s, 2) })
	}
	killUnderLoad(t, servers, load{devices: 18, pause: 200 * time.Millisecond, between: 150})
}

// The same with one server on the embedded store, killed three times, under a
// load that keeps it busy.
func TestKillEmbedded(t *testing.T) {
	s := newServer(t, "--data", t.TempDir())
	killUnderLoad(t, []*server{s, s, s}, load{devices: 40, pause: 20 * time.Millisecond, between: 3000})
}

// load is what devices do while servers are killed.
type load struct {
	devices int
	pause   time.Duration // of a device between two messages, at most
	between int64         // messages between two kills, at least
}

const inflight = 8 // of each device

// killUnderLoad kills the servers one after the other, starts each again, and
// checks what the devices saw.
func killUnderLoad(t *testing.T, servers []*server, load load) {
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.url)
	}
	h := newHistory()
	sending, stop := context.WithCancel(t.Context())
	receiving, end := context.WithCancel(t.Context())
	defer end()
	defer stop()
	var senders, receivers sync.WaitGroup
	var sent atomic.Int64
	for i := range load.devices {
		d := &device{t: t, name: deviceName(i), h: h, sent: &sent}
		first := i % len(urls)
		d.c = dial(t, client.Options{Servers: append(urls[first:len(urls):len(urls)], urls[:first]...), AuthKey: authKey(t, d.name)})
		receivers.Go(func() { d.receive(receiving) })
		senders.Go(func() { d.send(sending, load) })
	}
	progress := func(n int64) {
		t.Helper()
		target := sent.Load() + n
		eventually(t, 60*time.Second, func() error {
			if got := sent.Load(); got < target {
				return fmt.Errorf("%d messages sent, want %d", got, target)
			}
			return nil
		})
	}
	progress(load.between)
	for _, s := range servers {
		s.kill()
		if len(urls) > 1 && urls[0] != urls[1] {
			progress(load.between) // by way of the others
		}
		s.start("--force")
		s.waitReady()
		progress(load.between / 3)
	}
	stop()
	senders.Wait()
	eventually(t, 30*time.Second, func() error {
		if n := h.missing(); n > 0 {
			return fmt.Errorf("%d acknowledged messages missing", n)
		}
		return nil
	})
	end()
	receivers.Wait()
	acked := h.check(t)
	t.Logf("%d messages acknowledged, %d kills under load", acked, len(servers))
	if int64(acked) != sent.Load() {
		t.Errorf("%d of %d messages acknowledged", acked, sent.Load())
	}
}

// device sends to others at random and notes what it sees.
type device struct {
	t    *testing.T
	name string
	c    *client.Client
	h    *history
	sent *atomic.Int64
}

func deviceName(i int) string { return fmt.Sprintf("device-%d", i) }

func (d *device) receive(ctx context.Context) {
	for m, err := range d.c.Messages(ctx) {
		if err == nil {
			err = d.h.got(d.name, m)
		}
		if err != nil {
			if ctx.Err() == nil {
				d.t.Errorf("%s: %v", d.name, err)
			}
			return
		}
	}
}

// send returns when all that was sent has been answered.
func (d *device) send(ctx context.Context, load load) {
	room := make(chan struct{}, inflight)
	next := make(map[string]int)
	for ctx.Err() == nil {
		to := deviceName(rand.N(load.devices))
		if to == d.name {
			continue
		}
		next[to]++
		n := next[to]
		e := envelope.Envelope{DestNode: envelope.NodeID(to), ID: fmt.Sprintf("%s-%d", to, n)}
		e.SetPayload(strconv.Itoa(n))
		room <- struct{}{}
		d.sent.Add(1)
		err := d.c.SendAsync(d.t.Context(), e, func(_ client.Ack, err error) {
			defer func() { <-room }() // once it is noted: then all may be looked at
			if err != nil {
				d.t.Errorf("%s: message %d to %s: %v", d.name, n, to, err)
				return
			}
			d.h.acknowledged(pair{d.name, to}, n)
		})
		if err != nil {
			d.t.Errorf("%s: %v", d.name, err)
			return
		}
		select {
		case <-time.After(rand.N(load.pause)):
		case <-ctx.Done():
		}
	}
	for range inflight {
		room <- struct{}{}
	}
}
