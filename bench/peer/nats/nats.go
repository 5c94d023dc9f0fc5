// Package nats drives NATS over WebSocket, and JetStream for what is to be
// kept.
package nats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/internal/program"
	"github.com/allsparkrt/allspark/bench/peer/wire"
	"github.com/allsparkrt/allspark/bench/process"
)

// streamName is the one stream that holds all durable messages.
const streamName = "KEPT"

// ackWait is the server's default: after it, what was not acknowledged comes again.
const ackWait = 30 * time.Second

// Target is one NATS server. The zero value is ready to be started.
type Target struct {
	// Written by Start.
	program.Server
	env     peer.Env
	version string
	caller  *caller
	dialer  wire.Dialer
	stop    context.CancelFunc // of acknowledging
	acks    sync.WaitGroup

	mu        sync.Mutex
	durable   map[*client]struct{} // connections to which messages are pushed
	consumers map[string]*consumer // by user name
}

// consumer is a user's, as the server knows it. One at a time changes it: of two
// changes the later one would be overtaken by the one before.
type consumer struct {
	mu       sync.Mutex
	subjects []string
}

// New returns a target that is not started.
func New() *Target { return new(Target) }

// Another returns a target that is not started.
func (t *Target) Another() peer.Target { return New() }

// About says what it is.
func (t *Target) About() peer.About {
	return peer.About{
		Name: "nats", Title: "NATS", Version: t.version,
		Settings: "WebSocket; JetStream: one file stream, sync_interval always, a push consumer for each user with its state in memory, which spares NATS writes, one ack for 32 messages or a second",
		Can:      peer.Can{Volatile: true, Durable: true, Topics: true, Offline: true, Groups: true, Servers: 1},
	}
}

const config = `server_name: bench
listen: %q
websocket { listen: %q, no_tls: true, compression: false }
jetstream { store_dir: %q, sync_interval: always }
max_connections: 200000
`

// Start starts nats-server.
func (t *Target) Start(ctx context.Context, env peer.Env) (err error) {
	*t = Target{Server: program.At(env), env: env, version: "unknown", consumers: make(map[string]*consumer), durable: make(map[*client]struct{})}
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
	if t.caller, err = t.newCaller(ctx); err != nil {
		return err
	}
	acknowledging, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.stop = stop
	t.acks.Go(func() { t.acknowledge(acknowledging) })
	// One for each durable user: without a number, the server allows a thousand (2.15).
	const maxConsumers = 200_000
	return t.caller.call(ctx, "STREAM.CREATE."+streamName, map[string]any{
		"name": streamName, "subjects": []string{storedOf + ">", groupOf + ">"}, "storage": "file",
		"retention": "limits", "discard": "old", "num_replicas": 1, "max_consumers": maxConsumers, "max_msgs": -1, "max_bytes": -1,
	})
}

func (t *Target) startServer(ctx context.Context) error {
	path, err := program.Find("nats-server")
	if err != nil {
		return err
	}
	t.version = program.Version(ctx, path, "--version")
	addresses, err := program.Addresses(2)
	if err != nil {
		return err
	}
	file := filepath.Join(t.env.Dir, "nats.conf")
	text := fmt.Sprintf(config, addresses[0], addresses[1], filepath.Join(t.env.Dir, "jetstream"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	return t.Launch(ctx, addresses[1], process.Command{Program: path, Args: []string{"-c", file}, Dir: t.env.Dir, Name: "nats"})
}

// Stop stops what was started.
func (t *Target) Stop() error {
	var errs []error
	if t.stop != nil {
		t.stop()
		t.acks.Wait()
		t.stop = nil
	}
	if t.caller != nil && t.caller.client != nil {
		errs = append(errs, t.caller.client.Close())
	}
	t.caller = nil
	return errors.Join(append(errs, t.Server.Stop())...)
}

// Connect opens a connection for a user.
func (t *Target) Connect(ctx context.Context, u peer.User, h peer.Handler) (peer.Client, error) {
	answers := answersOf + u.Name + "."
	subs := appendSub(nil, volatileOf+u.Name, sidVolatile)
	if u.Durable {
		if err := t.follow(ctx, u.Name, storedOf+u.Name); err != nil {
			return nil, err
		}
		subs = appendSub(subs, pushedOf+u.Name, sidPushed)
	}
	subs = appendSub(subs, answers+"*", sidAnswers)
	for i, topic := range u.Topics {
		subs = appendSub(subs, topicOf+topic, sidTopics+i)
	}
	c, err := t.dial(ctx, subs, answers, h)
	if err != nil {
		return nil, err
	}
	if u.Durable {
		t.mu.Lock()
		t.durable[c] = struct{}{}
		t.mu.Unlock()
	}
	return c, nil
}

// acknowledge has all connections acknowledge what is left over.
func (t *Target) acknowledge(ctx context.Context) {
	ticker := time.NewTicker(ackAfter)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		t.mu.Lock()
		clients := slices.Collect(maps.Keys(t.durable))
		t.mu.Unlock()
		for _, c := range clients {
			_ = c.acknowledge(c.ws) // whoever owns it learns that it has ended
		}
	}
}

// forget takes a connection off the list of those that acknowledge.
func (t *Target) forget(c *client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.durable, c)
}

// Group makes members follow what is published to a group.
func (t *Target) Group(ctx context.Context, group string, members []string) error {
	for _, name := range members {
		if err := t.follow(ctx, name, storedOf+name, groupOf+group); err != nil {
			return err
		}
	}
	return nil
}

// follow creates or changes a user's consumer, so that it pushes what is sent
// to these subjects.
func (t *Target) follow(ctx context.Context, user string, subjects ...string) error {
	t.mu.Lock()
	c := t.consumers[user]
	if c == nil {
		c = new(consumer)
		t.consumers[user] = c
	}
	t.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	had := len(c.subjects)
	for _, s := range subjects {
		if !slices.Contains(c.subjects, s) {
			c.subjects = append(c.subjects, s)
		}
	}
	if len(c.subjects) == had {
		return nil
	}
	return t.caller.call(ctx, "CONSUMER.CREATE."+streamName+"."+user, map[string]any{
		"stream_name": streamName,
		"config": map[string]any{
			"name": user, "durable_name": user, "deliver_subject": pushedOf + user, "filter_subjects": c.subjects,
			"mem_storage": true, "deliver_policy": "all", "ack_policy": "all", "ack_wait": int64(ackWait), "replay_policy": "instant",
		},
	})
}
