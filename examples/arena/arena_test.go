package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// demo is three AllSpark servers in a process of their own.
type demo struct {
	Servers []string          `json:"servers"`
	Keys    map[string]string `json:"auth_keys"`
}

func startDemo(t *testing.T) demo {
	t.Helper()
	program := filepath.Join(t.TempDir(), "allspark")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/allspark").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(program, "demo", "--json", "--data", t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var d demo
	if err := json.Unmarshal(line, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// startMaster runs a master until the test, or the returned function, ends it.
func startMaster(t *testing.T, o Options) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	o.Session, o.Log = "arena", slog.New(slog.DiscardHandler)
	m, err := NewMaster(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := m.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("the master ended: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// bot is a player without an account.
type bot struct {
	*client.Client
	name   string
	header chan Header
	states chan State // the newest; older ones are dropped
}

func startBot(t *testing.T, server string, way steering) *bot {
	t.Helper()
	ctx := t.Context()
	guest, err := (&client.API{Servers: []string{server}}).Guest(ctx, "arena")
	if err != nil {
		t.Fatal(err)
	}
	b := &bot{header: make(chan Header, 1), states: make(chan State, 1)}
	b.Client, err = client.Dial(ctx, client.Options{
		Servers: []string{server}, AuthKey: guest.AuthKey, FromNow: true,
		OnHeader: func(h client.Header) {
			var said Header
			if err := json.Unmarshal(h.Document, &said); err == nil {
				b.header <- said
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	joined, err := b.JoinSession(ctx, "arena", client.Anonymously(""))
	if err != nil {
		t.Fatal(err)
	}
	b.name = short(joined.Node)
	var running sync.WaitGroup
	running.Go(func() { b.listen(t) })
	running.Go(func() { b.steer(ctx, way) })
	t.Cleanup(running.Wait)
	return b
}

func (b *bot) listen(t *testing.T) {
	for msg, err := range b.Messages(t.Context()) {
		if err != nil {
			return
		}
		if msg.HasType && envelope.SystemType(msg.Type) {
			continue
		}
		payload, _ := msg.Member("payload")
		var s State
		if err := json.Unmarshal(payload, &s); err != nil || s.Tick == 0 {
			if msg.Seq == 0 {
				t.Errorf("%s hears %s of %s: only the master speaks to players", b.name, payload, msg.SrcNode)
			}
			continue
		}
		select {
		case <-b.states:
		default:
		}
		b.states <- s
	}
}

func (b *bot) steer(ctx context.Context, way steering) {
	payload, _ := json.Marshal(way)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			// Without a connection there is nothing to say; it comes again.
			_ = b.SendAsync(ctx, envelope.Envelope{
				DestSession: "arena", Class: envelope.Latest, Key: "steer", Body: append([]byte(`"payload":`), payload...),
			}, func(client.Ack, error) {})
		case <-ctx.Done():
			return
		}
	}
}

// wait returns the first state that a player is told and that is as wanted.
func (b *bot) wait(t *testing.T, what string, wanted func(State) bool) State {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case s := <-b.states:
			if wanted(s) {
				return s
			}
		case <-late:
			t.Fatalf("%s: %s did not come", b.name, what)
		}
	}
}

func (s State) player(name string) (PlayerState, bool) {
	for _, p := range s.Players {
		if p.Name == name {
			return p, true
		}
	}
	return PlayerState{}, false
}

// TestArena plays with real servers: guests at all three of them, a master, and
// a deputy that takes over.
func TestArena(t *testing.T) {
	mesh := startDemo(t)
	stopFirst := startMaster(t, Options{Servers: mesh.Servers[:1], AuthKey: mesh.Keys["alice"], Deputy: "bob"})
	startMaster(t, Options{Servers: mesh.Servers[1:2], AuthKey: mesh.Keys["bob"]})
	var bots []*bot
	for i := range 6 {
		// To the left and to the right: each ends at its own side.
		bots = append(bots, startBot(t, mesh.Servers[i%3], steering{X: float64(i%2*2 - 1)}))
	}
	for _, b := range bots {
		select {
		case h := <-b.header:
			if h != header() {
				t.Errorf("%s is told the rules %+v", b.name, h)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s is not told the rules", b.name)
		}
	}
	all := func(s State) bool {
		if len(s.Players) != len(bots) {
			return false
		}
		for i, b := range bots {
			p, there := s.player(b.name)
			if side := []float64{playerRadius, width - playerRadius}[i%2]; !there || p.X != int(side) {
				return false
			}
		}
		return true
	}
	tick := uint64(0)
	for _, b := range bots {
		tick = max(tick, b.wait(t, "everybody where it goes", all).Tick)
	}

	stopFirst()
	for _, b := range bots {
		s := b.wait(t, fmt.Sprintf("a state after tick %d", tick+2*ticksPerSecond), func(s State) bool { return s.Tick > tick+2*ticksPerSecond })
		if !all(s) {
			t.Errorf("%s is told %+v by the deputy: where they were and where they go is not kept", b.name, s)
		}
	}
	// In this test the first master has left nothing undone: it comes back as deputy.
	startMaster(t, Options{Servers: mesh.Servers[2:], AuthKey: mesh.Keys["alice"]})
	tick = bots[0].wait(t, "a state", func(State) bool { return true }).Tick
	bots[0].wait(t, "the game going on", func(s State) bool { return s.Tick > tick+ticksPerSecond })
}
