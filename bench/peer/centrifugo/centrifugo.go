// Package centrifugo drives Centrifugo, 5 or 6, over WebSocket, with the JSON form of
// its protocol and its memory engine.
package centrifugo

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/internal/program"
	"github.com/allsparkrt/allspark/bench/peer/wire"
	"github.com/allsparkrt/allspark/bench/process"
)

// Target is one server. The zero value is ready to be started.
type Target struct {
	// Written by Start.
	program.Server
	loop   *wire.Loop
	dialer wire.Dialer

	mu       sync.Mutex
	version  string
	accounts map[string]*account // by user name
	clients  map[string]*client  // who is connected
}

// New returns a target that is not started.
func New() *Target { return new(Target) }

// Another returns a target that is not started.
func (t *Target) Another() peer.Target { return New() }

// About says what it is.
func (t *Target) About() peer.About {
	t.mu.Lock()
	defer t.mu.Unlock()
	return peer.About{
		Name: "centrifugo", Title: "Centrifugo", Version: t.version,
		Settings: "JSON over WebSocket, no authentication; durable: channel history in memory, not on disk, recovered on subscribing; pooled write buffers",
		Can:      peer.Can{Volatile: true, Topics: true, Offline: true, Groups: true, Servers: 1},
	}
}

// Config is the server's configuration, also for one that is not started by
// the bench. Insecure mode spares the server all checks of rights.
const Config = `{
  "http_server": {"address": "127.0.0.1", "port": 8000},
  "log": {"level": "error"},
  "client": {"insecure": true, "recovery_max_publication_limit": 1000000},
  "websocket": {"use_write_buffer_pool": true},
  "channel": {
    "namespaces": [{"name": "kept", "history_size": 1000000, "history_ttl": "24h", "force_recovery": true}]
  }
}
`

// config5 is the same for Centrifugo 5, whose configuration is flat.
const config5 = `{
  "address": "127.0.0.1", "port": 8000,
  "log_level": "error",
  "client_insecure": true, "client_recovery_max_publication_limit": 1000000,
  "websocket_use_write_buffer_pool": true,
  "namespaces": [{"name": "kept", "history_size": 1000000, "history_ttl": "24h", "force_recovery": true}]
}
`

// build returns the version of a program and the configuration for it. What
// was installed from source knows its version only by what Go writes down.
func build(ctx context.Context, path string) (version, config string) {
	version, config = program.Version(ctx, path, "version"), Config
	info, err := buildinfo.ReadFile(path)
	if err == nil && strings.HasPrefix(info.Main.Version, "v") {
		version = strings.TrimPrefix(info.Main.Version, "v")
	}
	if strings.HasPrefix(version, "5.") {
		config = config5
	}
	return version, config
}

// Start starts the program centrifugo, if there is no address.
func (t *Target) Start(ctx context.Context, env peer.Env) error {
	*t = Target{
		Server: program.At(env), loop: env.Loop, version: "unknown",
		accounts: make(map[string]*account), clients: make(map[string]*client),
	}
	if t.Address != "" {
		return nil
	}
	path, err := program.Find("centrifugo")
	if err != nil {
		return err
	}
	var config string
	t.version, config = build(ctx, path)
	ports, err := process.FreePorts(1)
	if err != nil {
		return err
	}
	file := filepath.Join(env.Dir, "centrifugo.json")
	text := strings.Replace(config, "8000", fmt.Sprint(ports[0]), 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	return t.Launch(ctx, program.Local(ports[0]), process.Command{Program: path, Args: []string{"--config", file}, Dir: env.Dir, Name: "centrifugo"})
}

// Connect opens a connection for a user.
func (t *Target) Connect(ctx context.Context, u peer.User, h peer.Handler) (peer.Client, error) {
	a := t.account(u.Name)
	channels := []string{userPrefix + u.Name}
	for _, topic := range u.Topics {
		channels = append(channels, topicPrefix+topic)
	}
	if u.Durable {
		channels = append(channels, a.kept(keptUserPrefix+u.Name)...)
	}
	c, err := t.dial(ctx, u.Name, a, channels, h)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.clients[u.Name] = c
	t.mu.Unlock()
	return c, nil
}

// Group makes members follow a channel: those who are connected from now on,
// the others from this position on.
func (t *Target) Group(ctx context.Context, group string, members []string) error {
	channel := groupPrefix + group
	first := &account{channels: make(map[string]*position)}
	c, err := t.dial(ctx, "", first, []string{channel}, peer.Handler{})
	if err != nil {
		return err
	}
	defer c.Close()
	start := first.position(channel)
	if start == nil {
		return fmt.Errorf("%w: no history in %s", errProtocol, channel)
	}
	for _, name := range members {
		t.account(name).set(channel, *start)
		t.mu.Lock()
		c := t.clients[name]
		t.mu.Unlock()
		if c != nil {
			if err := c.subscribe(ctx, channel); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Target) account(name string) *account {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.accounts[name]
	if a == nil {
		a = &account{channels: make(map[string]*position)}
		t.accounts[name] = a
	}
	return a
}

// kept returns the channels with history that the user follows, and own.
func (a *account) kept(own string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := []string{own}
	for channel := range a.channels {
		if channel != own {
			list = append(list, channel)
		}
	}
	slices.Sort(list)
	return list
}

// meet notes the version that a server tells.
func (t *Target) meet(version string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.version == "unknown" && version != "" {
		t.version = version
	}
}

// forget takes a connection off the list, unless its user has another one.
func (t *Target) forget(c *client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.clients[c.name] == c {
		delete(t.clients, c.name)
	}
}
