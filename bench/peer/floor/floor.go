// Package floor is what no server can do without: relays that only hand
// messages on, each a process of its own, and a bare file for what is durable.
package floor

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/internal/program"
	"github.com/allsparkrt/allspark/bench/peer/wire"
	"github.com/allsparkrt/allspark/bench/process"
)

// Relay is one kind of relay. It is made by [TCP], [WebSocket] and [Coder].
type Relay struct {
	// Static.
	about peer.About
	kind  string // for the program

	// Written by Start.
	program.Server
	loop   *wire.Loop
	dialer wire.Dialer
}

// TCP returns a relay of messages on plain TCP.
func TCP() *Relay {
	return newRelay("tcp", "tcp-relay", "TCP relay",
		"event loop, no WebSocket; durable: one append and fdatasync for all that came together", true)
}

// WebSocket returns a relay with its own WebSocket framing.
func WebSocket() *Relay {
	return newRelay("ws", "ws-relay", "WebSocket relay",
		"event loop, own framing; durable: one append and fdatasync for all that came together", true)
}

// Coder returns a relay on coder/websocket as its documentation shows it.
func Coder() *Relay {
	return newRelay("coder", "coder-relay", "Library relay", "coder/websocket on net/http, a goroutine for each connection", false)
}

func newRelay(kind, name, title, settings string, durable bool) *Relay {
	return &Relay{kind: kind, about: peer.About{
		Name: name, Title: title, Version: runtime.Version(), Settings: settings, Floor: true,
		Can: peer.Can{Volatile: true, Durable: durable, Topics: true, Servers: 1},
	}}
}

// Another returns a relay of the same kind that is not started.
func (r *Relay) Another() peer.Target { return &Relay{about: r.about, kind: r.kind} }

// About says what it is.
func (r *Relay) About() peer.About { return r.about }

// Start builds the relay and starts it. It must be called within the module.
func (r *Relay) Start(ctx context.Context, env peer.Env) error {
	r.Server, r.loop = program.At(env), env.Loop
	if r.Address != "" {
		return nil
	}
	path := filepath.Join(env.Dir, "relay")
	build := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/allsparkrt/allspark/bench/peer/floor/relay")
	if out, err := build.CombinedOutput(); err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	addresses, err := program.Addresses(1)
	if err != nil {
		return err
	}
	args := []string{"-kind", r.kind, "-listen", addresses[0]}
	if r.about.Can.Durable {
		args = append(args, "-log", filepath.Join(env.Dir, "relay.data"))
	}
	return r.Launch(ctx, addresses[0], process.Command{Program: path, Args: args, Dir: env.Dir, Name: "relay"})
}

// Group is something that relays do not know.
func (r *Relay) Group(context.Context, string, []string) error { return peer.ErrCannot }
