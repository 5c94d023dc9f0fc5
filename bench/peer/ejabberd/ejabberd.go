// Package ejabberd drives ejabberd: XMPP over WebSocket, with offline storage.
package ejabberd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/internal/program"
	"github.com/allsparkrt/allspark/bench/peer/wire"
	"github.com/allsparkrt/allspark/bench/peer/ws"
	"github.com/allsparkrt/allspark/bench/process"
)

// Target is one ejabberd. The zero value is ready to be started.
type Target struct {
	// Written by Start.
	program.Server
	loop    *wire.Loop
	version string
	dialer  wire.Dialer

	mu      sync.Mutex
	known   map[string]struct{} // users that have an account
	clients map[string]*client  // who is connected
	asked   map[string]chan struct{}
	asking  int
}

// New returns a target that is not started.
func New() *Target { return new(Target) }

// Another returns a target that is not started.
func (t *Target) Another() peer.Target { return New() }

// About says what it is.
func (t *Target) About() peer.About {
	return peer.About{
		Name: "ejabberd", Title: "ejabberd", Version: t.version,
		Settings: "XMPP over WebSocket; durable: stream management and offline messages in Mnesia, which does not sync each one; topics: rooms without presence; groups: room subscriptions; no busy waiting; who is disconnected while logging in tries once more",
		Can:      peer.Can{Volatile: true, Topics: true, Offline: true, Groups: true, Servers: 1},
	}
}

const config = `loglevel: error
hosts: [%q]
listen:
  - port: %s
    ip: "127.0.0.1"
    module: ejabberd_http
    backlog: 4096
    request_handlers:
      /ws: ejabberd_http_ws
auth_method: mnesia
auth_password_format: plain
registration_timeout: infinity
max_fsm_queue: 1000000
acl:
  local:
    user_regexp: ""
access_rules:
  local:
    allow: local
shaper_rules:
  any_number:
    infinity: all
modules:
  mod_offline:
    access_max_user_messages: any_number
  mod_register:
    access: local
    ip_access: all
    password_strength: 0
  mod_stream_mgmt:
    max_ack_queue: infinity
    resend_on_timeout: true
  mod_muc:
    max_users: 100000
    max_user_conferences: 1000
    history_size: 0
    default_room_options:
      presence_broadcast: []
      max_users: 100000
      allow_subscription: true
`

// Start starts ejabberd's virtual machine as its own script does, but without
// distribution, which one server does not need.
func (t *Target) Start(ctx context.Context, env peer.Env) (err error) {
	*t = Target{
		Server: program.At(env), loop: env.Loop, version: "unknown",
		known: make(map[string]struct{}), clients: make(map[string]*client), asked: make(map[string]chan struct{}),
	}
	if t.Address != "" {
		return nil
	}
	if _, err := program.Find("ejabberdctl"); err != nil {
		return err
	}
	erl, err := program.Find("erl")
	if err != nil {
		return err
	}
	libraries, err := filepath.Glob("/usr/lib/*/ejabberd-*/ebin/ejabberd.app")
	if err != nil || len(libraries) == 0 {
		return errors.Join(errors.New("ejabberd: not where Debian puts it"), err)
	}
	library := filepath.Dir(filepath.Dir(libraries[0]))
	t.version = program.Version(ctx, "echo", filepath.Base(library))
	ports, err := process.FreePorts(1)
	if err != nil {
		return err
	}
	file := filepath.Join(env.Dir, "ejabberd.yml")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, host, strconv.Itoa(ports[0])), 0o600); err != nil {
		return err
	}
	return t.Launch(ctx, program.Local(ports[0]), process.Command{
		Program: erl, Dir: env.Dir, Name: "ejabberd",
		Args: []string{
			"+K", "true", "+P", "2000000", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none",
			"-noinput", "-mnesia", "dir", strconv.Quote(filepath.Join(env.Dir, "mnesia")), "-s", "ejabberd",
		},
		Env: append(os.Environ(),
			"EJABBERD_CONFIG_PATH="+file, "EJABBERD_LOG_PATH="+filepath.Join(env.Dir, "ejabberd-own.log"),
			"ERL_LIBS="+filepath.Dir(library), "ERL_MAX_PORTS=200000", "HOME="+env.Dir,
			"ERL_CRASH_DUMP="+filepath.Join(env.Dir, "crash")),
	})
}

// Connect opens a connection for a user.
func (t *Target) Connect(ctx context.Context, u peer.User, h peer.Handler) (peer.Client, error) {
	c, err := t.dial(ctx, u, h)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Group makes members subscribe to a room: in the connection that they have,
// or in one for that purpose.
func (t *Target) Group(ctx context.Context, group string, members []string) error {
	for i, name := range members {
		t.mu.Lock()
		c := t.clients[name]
		t.mu.Unlock()
		if c == nil {
			var err error
			if c, err = t.dial(ctx, peer.User{Name: name}, peer.Handler{}); err != nil {
				return err
			}
			defer c.Close()
		}
		if i == 0 { // a room begins with somebody in it
			if err := c.ws.Write(ws.Text, c.counted(func(b []byte) []byte { return appendJoin(b, group, name) })); err != nil {
				return err
			}
		}
		if err := t.subscribe(ctx, c, group); err != nil {
			return err
		}
	}
	return nil
}

// subscribe returns when the room has taken the subscription.
func (t *Target) subscribe(ctx context.Context, c *client, room string) error {
	answer := make(chan struct{})
	t.mu.Lock()
	t.asking++
	id := "subscribe-" + strconv.Itoa(t.asking)
	t.asked[id] = answer
	t.mu.Unlock()
	err := c.ws.Write(ws.Text, c.counted(func(b []byte) []byte { return appendSubscribe(b, room, c.name, id) }))
	if err != nil {
		return err
	}
	select {
	case <-answer:
		return nil
	case <-c.ended:
		return c.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// answered is told the id of an answer; false: it is not for subscribe.
func (t *Target) answered(id []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	answer, ok := t.asked[string(id)]
	if ok {
		delete(t.asked, string(id))
		close(answer)
	}
	return ok
}

// firstTime says whether a user needs an account, and notes that there is one.
func (t *Target) firstTime(user string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.known[user]
	t.known[user] = struct{}{}
	return !ok
}

func (t *Target) connected(c *client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clients[c.name] = c
}

func (t *Target) disconnected(c *client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.clients[c.name] == c {
		delete(t.clients, c.name)
	}
}
