// Package allspark drives AllSpark itself, by its native protocol: the calls and
// frames that any client makes, without the client library.
package allspark

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/wire"
	"github.com/allsparkrt/allspark/bench/peer/ws"
	"github.com/allsparkrt/allspark/bench/process"
	"github.com/allsparkrt/allspark/bench/target"
)

const topicPrefix = "topic:"

// Builder builds the server once for all targets.
type Builder struct {
	Dir     string // where the program is put
	Program string // of the server, if it is there already

	once    sync.Once
	program string
	err     error
}

func (b *Builder) build(ctx context.Context) (string, error) {
	if b.Program != "" {
		return b.Program, nil
	}
	b.once.Do(func() {
		b.program = filepath.Join(b.Dir, "allspark")
		b.err = target.Build(ctx, b.program)
	})
	return b.program, b.err
}

// Target is AllSpark in one arrangement.
type Target struct {
	// Static after construction.
	about   peer.About
	kind    string // of package target
	options Options

	// Static after Start.
	servers *target.Target
	env     peer.Env
	dialer  *wire.Dialer
	callers []*caller // of each server
	stop    context.CancelFunc
	ticking sync.WaitGroup

	mu        sync.Mutex
	late      []*client                    // have something to acknowledge within a second
	positions map[string]map[string]uint64 // of users who have gone: their cursors
}

// Options say how the servers are started, or reached when they run already.
type Options struct {
	Builder    *Builder
	MongoURI   string
	SecretFile string // of servers that run: what auth keys are signed with
}

// One is one server with an embedded store.
func One(o Options) *Target {
	return newTarget(o, target.Serve1, peer.About{
		Name: "allspark", Title: "AllSpark", Settings: "one server, embedded store, each acknowledged message fsync'd",
		Can: peer.Can{Servers: 1},
	})
}

// Three is three servers in one process over one embedded store.
func Three(o Options) *Target {
	return newTarget(o, target.Demo, peer.About{
		Name: "allspark-3", Title: "AllSpark × 3", Settings: "three servers in one process, one embedded store",
		Can: peer.Can{Servers: 3, Connections: 30_000},
	})
}

// Mongo is three processes over one MongoDB.
func Mongo(o Options) *Target {
	return newTarget(o, target.Mongo3, peer.About{
		Name: "allspark-mongo", Title: "AllSpark × 3, MongoDB", Settings: "three processes over one MongoDB, whose own costs are not counted",
		Can: peer.Can{Servers: 3, Processes: 3},
	})
}

func newTarget(o Options, kind string, a peer.About) *Target {
	a.Version = "unknown"
	a.Can.Volatile, a.Can.Durable, a.Can.Topics, a.Can.Offline, a.Can.Groups = true, true, true, true, true
	a.Can.Presence, a.Can.Receipts = true, true
	return &Target{about: a, kind: kind, options: o}
}

// Another returns a target of the same kind that is not started.
func (t *Target) Another() peer.Target { return newTarget(t.options, t.kind, t.about) }

// About implements [peer.Target].
func (t *Target) About() peer.About { return t.about }

// Start implements [peer.Target].
func (t *Target) Start(ctx context.Context, env peer.Env) (err error) {
	t.env, t.dialer, t.positions = env, new(wire.Dialer), make(map[string]map[string]uint64)
	if env.Secret != "" {
		t.servers = &target.Target{URLs: strings.Split(env.Address, ","), PIDs: env.PIDs, Secret: auth.Secret(env.Secret)}
	} else if env.Address != "" {
		t.servers, err = target.Running(strings.Split(env.Address, ","), env.PIDs, t.options.SecretFile, "")
	} else {
		var program string
		if program, err = t.options.Builder.build(ctx); err != nil {
			return err
		}
		var version string
		if version, err = process.Output(ctx, program, "version"); err == nil {
			t.about.Version = strings.TrimPrefix(version, "allspark ")
			t.servers, err = target.Start(ctx, target.Options{Name: t.kind, MongoURI: t.options.MongoURI, Program: program, Dir: env.Dir})
		}
	}
	if err != nil {
		return err
	}
	t.callers = nil
	for _, url := range t.servers.URLs {
		t.callers = append(t.callers, newCaller(address(url), t.dialer))
	}
	ctx, t.stop = context.WithCancel(context.WithoutCancel(ctx))
	t.ticking.Go(func() { t.tick(ctx) })
	return nil
}

func address(url string) string {
	return strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/")
}

// Stop implements [peer.Target].
func (t *Target) Stop() error {
	t.stop()
	t.ticking.Wait()
	for _, c := range t.callers {
		c.close()
	}
	return t.servers.Close()
}

// Reach returns what another process needs to open connections, see
// [peer.Env].
func (t *Target) Reach() peer.Env {
	return peer.Env{Address: strings.Join(t.servers.URLs, ","), Secret: string(t.servers.Secret)}
}

// PIDs implements [peer.Target].
func (t *Target) PIDs() []int { return t.servers.PIDs }

// Connect implements [peer.Target]: the call that says where to connect, the
// handshake, and hello.
func (t *Target) Connect(ctx context.Context, u peer.User, h peer.Handler) (peer.Client, error) {
	k := u.Index % len(t.callers)
	key, err := t.servers.Key(u.Name, false)
	if err != nil {
		return nil, err
	}
	where, token, err := t.preconnect(ctx, k, key)
	if err != nil {
		return nil, err
	}
	c := &client{t: t, name: u.Name, durable: u.Durable, handler: h, topics: slices.Clone(u.Topics), open: make(chan error, 1)}
	if u.Durable {
		c.cursors = t.position(u.Name)
	}
	c.ws, err = ws.Dial(ctx, ws.Options{
		Loop: t.env.Loop, Dialer: t.dialer, Address: where, Path: "/ws", Protocol: "allspark.v2.json, bearer." + token,
		Message: c.read, Closed: c.gone,
	})
	if err != nil {
		return nil, err
	}
	if err := c.hello(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// preconnect asks server k where the device may connect: there, if it may.
func (t *Target) preconnect(ctx context.Context, k int, key string) (where, token string, err error) {
	var found struct {
		Servers []struct {
			URL   string `json:"url"`
			Token string `json:"validation_token"`
		} `json:"servers"`
	}
	if err := t.callers[k].post(ctx, "/v1/connect", key, nil, &found); err != nil {
		return "", "", err
	}
	for _, s := range found.Servers {
		if address(s.URL) == t.callers[k].address {
			return t.callers[k].address, s.Token, nil
		}
	}
	if len(found.Servers) == 0 {
		return "", "", errors.New("allspark: no server takes connections")
	}
	return address(found.Servers[0].URL), found.Servers[0].Token, nil
}

// Group implements [peer.Target]: the app makes a session and adds the members.
func (t *Target) Group(ctx context.Context, group string, members []string) error {
	key, err := t.servers.Key("bench-app", true)
	if err != nil {
		return err
	}
	if err := t.call(ctx, "/v1/sessions", key, map[string]any{"session_id": group}); err != nil {
		return err
	}
	for _, m := range members {
		if err := t.call(ctx, "/v1/sessions/"+group+"/add", key, map[string]any{"node_id": m}); err != nil {
			return fmt.Errorf("allspark: adding %s: %w", m, err)
		}
	}
	return nil
}

func (t *Target) call(ctx context.Context, path, key string, body map[string]any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return t.callers[0].post(ctx, path, key, raw, nil)
}

// later has a client acknowledge within a second.
func (t *Target) later(c *client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.late = append(t.late, c)
}

// remember keeps the cursors of a user who goes: devices do that themselves.
func (t *Target) remember(user string, cursors map[string]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.positions[user] = cursors
}

func (t *Target) position(user string) map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.positions[user])
}

// tick has clients acknowledge, until the target is stopped.
func (t *Target) tick(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		t.mu.Lock()
		late := slices.Clone(t.late)
		t.late = t.late[:0]
		t.mu.Unlock()
		for _, c := range late {
			c.acknowledge()
		}
	}
}
