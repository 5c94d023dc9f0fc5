// Package mosquitto drives Eclipse Mosquitto: MQTT 3.1.1 over WebSocket.
package mosquitto

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/internal/program"
	"github.com/allsparkrt/allspark/bench/peer/wire"
	"github.com/allsparkrt/allspark/bench/process"
)

// Target is one broker. The zero value is ready to be started.
type Target struct {
	// Written by Start.
	program.Server
	env     peer.Env
	version string
	dialer  wire.Dialer
	stop    context.CancelFunc // of the pinger
	pinger  sync.WaitGroup

	mu      sync.Mutex
	clients map[string]*client // by user name
}

// New returns a target that is not started.
func New() *Target { return new(Target) }

// Another returns a target that is not started.
func (t *Target) Another() peer.Target { return New() }

// About says what it is.
func (t *Target) About() peer.About {
	return peer.About{
		Name: "mosquitto", Title: "Mosquitto", Version: t.version,
		Settings: "MQTT 3.1.1 over WebSocket; durable: QoS 1 and persistent sessions, kept in memory and not written for each message; no limit of queued messages; ping each 30 s",
		Can:      peer.Can{Volatile: true, Topics: true, Offline: true, Groups: true, Servers: 1},
	}
}

// config is of one listener; the broker ends when it has none but WebSockets,
// hence the other one.
const config = `user %s
listener 0 %s
listener %d 127.0.0.1
protocol websockets
socket_domain ipv4
allow_anonymous true
persistence true
persistence_location %s/
max_queued_messages 0
set_tcp_nodelay true
connection_messages false
log_type error
log_type warning
`

// Start starts mosquitto.
func (t *Target) Start(ctx context.Context, env peer.Env) (err error) {
	*t = Target{Server: program.At(env), env: env, version: "unknown", clients: make(map[string]*client)}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Stop())
		}
	}()
	if t.Address == "" {
		if err := t.startServer(ctx); err != nil {
			return err
		}
	}
	pinging, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.stop = stop
	t.pinger.Go(func() { t.pingAll(pinging) })
	return nil
}

func (t *Target) startServer(ctx context.Context) error {
	path, err := program.Find("mosquitto")
	if err != nil {
		return err
	}
	t.version = program.Version(ctx, path, "-h")
	ports, err := process.FreePorts(1)
	if err != nil {
		return err
	}
	who, err := user.Current() // else root's broker becomes another user, who may not write here
	if err != nil {
		return err
	}
	file := filepath.Join(t.env.Dir, "mosquitto.conf")
	text := fmt.Sprintf(config, who.Username, filepath.Join(t.env.Dir, "mosquitto.sock"), ports[0], t.env.Dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	return t.Launch(ctx, program.Local(ports[0]), process.Command{Program: path, Args: []string{"-c", file}, Dir: t.env.Dir, Name: "mosquitto"})
}

// Stop stops what was started.
func (t *Target) Stop() error {
	if t.stop != nil {
		t.stop()
		t.pinger.Wait()
		t.stop = nil
	}
	return t.Server.Stop()
}

// Connect opens a connection for a user.
func (t *Target) Connect(ctx context.Context, u peer.User, h peer.Handler) (peer.Client, error) {
	filters := []string{userPrefix + u.Name}
	for _, topic := range u.Topics {
		filters = append(filters, topicPrefix+topic)
	}
	c, err := t.dial(ctx, u.Name, u.Durable, filters, h)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.clients[u.Name] = c
	t.mu.Unlock()
	return c, nil
}

// Group makes members subscribe: in the connection that they have, or in one
// for that purpose, because the server takes subscriptions only from their owner.
func (t *Target) Group(ctx context.Context, group string, members []string) error {
	filters := []string{groupPrefix + group}
	for _, name := range members {
		t.mu.Lock()
		c := t.clients[name]
		t.mu.Unlock()
		var err error
		if c != nil {
			err = c.subscribe(ctx, filters)
		} else if c, err = t.dial(ctx, name, true, filters, peer.Handler{}); err == nil {
			err = c.Close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// forget takes a connection off the list, unless its user has another one.
func (t *Target) forget(c *client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.clients[c.name] == c {
		delete(t.clients, c.name)
	}
}

// pingAll pings all connections every half of keepAlive, a few at a time:
// in MQTT this is the client's duty.
func (t *Target) pingAll(ctx context.Context) {
	const rounds = keepAlive / 2
	second := time.NewTicker(time.Second)
	defer second.Stop()
	var left []*client
	for round := 0; ; round++ {
		select {
		case <-second.C:
		case <-ctx.Done():
			return
		}
		if round%rounds == 0 {
			left = t.connected()
		}
		n := (len(left) + rounds - round%rounds - 1) / (rounds - round%rounds)
		for _, c := range left[:n] {
			_ = c.ping() // whoever owns it learns that it has ended
		}
		left = left[n:]
	}
}

func (t *Target) connected() []*client {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*client, 0, len(t.clients))
	for _, c := range t.clients {
		list = append(list, c)
	}
	return list
}
