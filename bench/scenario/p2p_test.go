package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/bench/ledger"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
)

// runAgainst runs a small P2P in a bubble against a server in memory.
func runAgainst(t *testing.T, s *clienttest.Server, change func(*P2P), check func(Report, error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := new(clienttest.Network)
		srv := &http.Server{Handler: s}
		var serving sync.WaitGroup
		l := network.Listen("a:80")
		serving.Go(func() { _ = srv.Serve(l) })
		p := P2P{
			Servers: []string{"http://a"}, Messages: 500, Inflight: 4, Size: 200, Seed: 1,
			Settle: 5 * time.Second, HTTPClient: network.Client(),
		}
		for i := range 6 {
			id := fmt.Sprintf("d%d", i)
			p.Devices = append(p.Devices, Device{ID: envelope.NodeID(id), Key: id})
		}
		change(&p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		rep, err := p.Run(ctx)
		_ = srv.Close()
		serving.Wait()
		check(rep, err)
	})
}

func TestP2PAgainstAGoodServer(t *testing.T) {
	for _, class := range []envelope.Class{envelope.Durable, envelope.Volatile} {
		runAgainst(t, new(clienttest.Server), func(p *P2P) { p.Class = class }, func(r Report, err error) {
			if err != nil {
				t.Fatal(err)
			}
			if want := (ledger.Verdict{Sent: 500, Taken: 500, Received: 500}); r.Verdict != want {
				t.Errorf("%v: %+v", class, r.Verdict)
			}
		})
	}
}

func TestP2PFindsWhatAServerDoesWrong(t *testing.T) {
	var mu sync.Mutex
	seen := 0
	nth := func(n int) bool { // of the messages to arrive
		mu.Lock()
		defer mu.Unlock()
		seen++
		return seen == n
	}
	for _, tt := range []struct {
		name string
		s    *clienttest.Server
		want ledger.Verdict
	}{
		{"loses one", &clienttest.Server{}, ledger.Verdict{Sent: 500, Taken: 500, Received: 499, Lost: 1}},
		{"refuses one", &clienttest.Server{}, ledger.Verdict{Sent: 500, Taken: 499, Refused: 1, Received: 499}},
		{"repeats one", &clienttest.Server{}, ledger.Verdict{Sent: 500, Taken: 500, Received: 500, Duplicated: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen = 0
			tt.s.OnMessage = func(c *clienttest.Conn, e envelope.Envelope) bool {
				if !nth(200) {
					return false
				}
				switch tt.name {
				case "loses one":
					c.Take(e, 0)
					return true
				case "refuses one":
					c.WriteControl(envelope.Control{Control: envelope.ControlNack, ID: e.ID, Code: envelope.Forbidden})
					return true
				}
				twin := e // the same message, stored under another id
				twin.ID = "twin"
				tt.s.Deliver(twin)
				return false
			}
			runAgainst(t, tt.s, func(*P2P) {}, func(r Report, err error) {
				if err != nil || r.Verdict != tt.want {
					t.Errorf("%+v, %v", r.Verdict, err)
				}
			})
		})
	}
}

func TestP2PSurvivesBrokenConnections(t *testing.T) {
	var mu sync.Mutex
	seen := 0
	s := new(clienttest.Server)
	s.OnMessage = func(c *clienttest.Conn, e envelope.Envelope) bool {
		mu.Lock()
		defer mu.Unlock()
		if seen++; seen%100 == 0 {
			c.Abort()
		}
		return false
	}
	runAgainst(t, s, func(*P2P) {}, func(r Report, err error) {
		if err != nil {
			t.Fatal(err)
		}
		if want := (ledger.Verdict{Sent: 500, Taken: 500, Received: 500}); r.Verdict != want || r.Reconnects < 5 {
			t.Errorf("%+v, %d reconnects", r.Verdict, r.Reconnects)
		}
	})
}

// TestOpenLoopCountsFromTheMomentDue has a server that stalls for a second:
// everything due in that second is late by what was left of it.
func TestOpenLoopCountsFromTheMomentDue(t *testing.T) {
	s := new(clienttest.Server)
	var stalled atomic.Bool
	s.OnMessage = func(*clienttest.Conn, envelope.Envelope) bool {
		if stalled.CompareAndSwap(false, true) {
			time.Sleep(time.Second) // holds up this connection only
		}
		return false
	}
	cpu := time.Duration(0)
	change := func(p *P2P) {
		p.Devices, p.Rate = p.Devices[:2], 100
		p.CPU = func() (time.Duration, error) { cpu += 5 * time.Millisecond; return cpu, nil }
	}
	runAgainst(t, s, change, func(r Report, err error) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Seconds < 4.98 || r.Seconds > 5.1 {
			t.Errorf("500 messages at 100/s took %v s", r.Seconds)
		}
		// Every other message of the stalled second waits: a tenth of all.
		if r.ToAck.P50 > 1000 || r.ToAck.P99 < 800_000 || r.ToAck.Max < 990_000 {
			t.Errorf("latencies %+v", r.ToAck)
		}
		if r.ServerCPU == nil || *r.ServerCPU != 10 {
			t.Errorf("CPU %v", r.ServerCPU)
		}
	})
}

func TestP2PGivesUp(t *testing.T) {
	s := &clienttest.Server{OnMessage: func(*clienttest.Conn, envelope.Envelope) bool { return true }}
	runAgainst(t, s, func(*P2P) {}, func(_ Report, err error) {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestReportForms(t *testing.T) {
	cpu := 12.5
	r := Report{
		Scenario: "p2p", Class: "durable", Servers: 3, Target: "demo", Devices: 100, Size: 200, Inflight: 16,
		Verdict: ledger.Verdict{Sent: 5, Taken: 5, Received: 4, Lost: 1}, PerSecond: 100, ServerCPU: &cpu,
		ToReceive: Latency{P50: 1500},
	}
	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"lost", "12.5 µs per message", "1.50", "closed loop, 16"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, &table)
		}
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"lost":1`, `"acknowledged":5`, `"p50_us":1500`, `"server_cpu_us_per_message":12.5`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("no %s in %s", want, raw)
		}
	}
}
