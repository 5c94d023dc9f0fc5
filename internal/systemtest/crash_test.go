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
func TestKillEachServer(t *testing.T) {
	const (
		devices  = 12
		inflight = 8
	)
	uri, db := mongotest.URI(t), mongotest.Database(t)
	var servers []*server
	var urls []string
	for range 3 {
		args := []string{"--mongodb-uri", uri, "--mongodb-database", db}
		if len(servers) > 0 {
			args = append(args, "--join", servers[0].gossip)
		}
		s := newServer(t, args...)
		servers, urls = append(servers, s), append(urls, s.url)
	}
	for _, s := range servers {
		eventually(t, 15*time.Second, func() error { return linked(s, 2) })
	}

	h := newHistory()
	sending, stop := context.WithCancel(t.Context())
	var senders, receivers sync.WaitGroup
	receiving, end := context.WithCancel(t.Context())
	var sent atomic.Int64
	for i := range devices {
		me := fmt.Sprintf("device-%d", i)
		c := dial(t, client.Options{Servers: append(urls[i%3:len(urls):len(urls)], urls[:i%3]...), AuthKey: authKey(t, me)})
		receivers.Go(func() {
			for m, err := range c.Messages(receiving) {
				if err == nil {
					err = h.got(me, m)
				}
				if err != nil && receiving.Err() == nil {
					t.Errorf("%s: %v", me, err)
				}
				if err != nil {
					return
				}
			}
		})
		senders.Go(func() {
			room := make(chan struct{}, inflight)
			next := make(map[string]int)
			for sending.Err() == nil {
				to := fmt.Sprintf("device-%d", rand.N(devices))
				if to == me {
					continue
				}
				next[to]++
				n := next[to]
				e := envelope.Envelope{DestNode: envelope.NodeID(to), ID: fmt.Sprintf("%s-%d", to, n)}
				e.SetPayload(strconv.Itoa(n))
				room <- struct{}{}
				sent.Add(1)
				err := c.SendAsync(t.Context(), e, func(_ client.Ack, err error) {
					<-room
					if err != nil {
						t.Errorf("%s: message %d to %s: %v", me, n, to, err)
						return
					}
					h.acknowledged(pair{me, to}, n)
				})
				if err != nil {
					t.Errorf("%s: %v", me, err)
					return
				}
				select {
				case <-time.After(rand.N(300 * time.Millisecond)):
				case <-sending.Done():
				}
			}
			for range inflight { // until everything is answered
				room <- struct{}{}
			}
		})
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
	progress(150)
	for _, s := range servers {
		s.kill()
		progress(150)
		s.start("--force")
		s.waitReady()
		progress(50)
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
	t.Logf("%d messages acknowledged, %d servers killed under load", acked, len(servers))
	if int64(acked) != sent.Load() {
		t.Errorf("%d of %d messages acknowledged", acked, sent.Load())
	}
}
