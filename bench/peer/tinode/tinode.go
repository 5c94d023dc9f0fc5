// Package tinode drives Tinode over WebSocket, with PostgreSQL behind it.
package tinode

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/internal/program"
	"github.com/allsparkrt/allspark/bench/peer/wire"
	"github.com/allsparkrt/allspark/bench/process"
)

// Target is Tinode and its database. The zero value is ready to be started.
//
// In Tinode two users who write to one another have a topic, and to make one
// takes many times as long as to write in it. Scenarios pick addressees at
// random, so most of what they measured would be new topics. Here each user
// writes in one conversation, with the user who connected before, and the
// partner's connection hands what comes to whom it is for, which costs the
// server nothing. To the server each message is one that is stored and goes to
// one other user.
type Target struct {
	// Written by Start.
	env      peer.Env
	address  string
	version  string
	database *process.Process // nil: the server runs by itself
	server   *process.Process
	pids     []int
	dialer   wire.Dialer

	mu       sync.Mutex
	accounts map[string]account // by user name
	clients  map[string]*client // who is connected
	last     *client            // who connected last; nil: nobody, or has left
}

// account is what a user needs to come back.
type account struct{ uid, token string }

// New returns a target that is not started.
func New() *Target { return new(Target) }

// About says what it is.
func (t *Target) About() peer.About {
	return peer.About{
		Name: "tinode", Title: "Tinode", Version: t.version,
		Settings: "JSON over WebSocket; PostgreSQL without autovacuum, its CPU time included, memory that its processes share counted for each; each user writes in one conversation, whoever a message is for, so that none is made meanwhile",
		// Making an account takes 50 ms of a core.
		Can: peer.Can{Durable: true, Servers: 1, Connections: 1000},
	}
}

const config = `{
  "listen": %q, "api_path": "/", "grpc_listen": "", "static_mount": "-", "expvar": "-",
  "api_key_salt": "T713/rYYgW7g4m3vG6zGRh7+FM1t0T8j13koXScOAj4=", "ws_compression_disabled": true,
  "max_message_size": 131072, "max_subscriber_count": 1000, "max_tag_count": 16,
  "push": [],
  "auth_config": {
    "basic": {"add_to_tags": false, "min_login_length": 1, "min_password_length": 1},
    "token": {"expire_in": 1209600, "serial_num": 1, "key": "wfaY2RgF2S1OQI/ZlK+LSrp1KB2jwAdGAIHQ7JZn+Kc="}
  },
  "store_config": {
    "uid_key": "la6YsO+bNX/+XIkOqc5Svw==", "max_results": 1024, "use_adapter": "postgres",
    "adapters": {"postgres": {
      "dsn": "postgresql://postgres@%s/tinode?sslmode=disable&pool_max_conns=%[3]d&pool_min_conns=%[3]d&pool_max_conn_lifetime=24h&pool_max_conn_idle_time=24h"
    }}
  }
}
`

// poolSize is how many connections to the database there are, from the start
// on: each is a process, whose CPU time counts.
const poolSize = 32

// Start starts PostgreSQL and Tinode.
func (t *Target) Start(ctx context.Context, env peer.Env) (err error) {
	*t = Target{
		env: env, address: env.Address, version: "unknown", pids: env.PIDs,
		accounts: make(map[string]account), clients: make(map[string]*client),
	}
	if t.address != "" {
		return nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Stop())
		}
	}()
	path, err := program.Find("tinode")
	if err != nil {
		return err
	}
	tables, err := program.Find("tinode-db")
	if err != nil {
		return err
	}
	t.version = version(path)
	addresses, err := program.Addresses(2)
	if err != nil {
		return err
	}
	t.address = addresses[0]
	if err := t.startDatabase(ctx, addresses[1]); err != nil {
		return err
	}
	file := filepath.Join(env.Dir, "tinode.json")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, t.address, addresses[1], poolSize), 0o600); err != nil {
		return err
	}
	// The database takes connections before it takes commands.
	err = t.database.Ready(ctx, func(ctx context.Context) error {
		if out, err := exec.CommandContext(ctx, tables, "--config", file).CombinedOutput(); err != nil {
			return fmt.Errorf("tinode: making the tables: %w\n%s", err, out)
		}
		return nil
	})
	if err != nil {
		return err
	}
	static := filepath.Join(env.Dir, "static") // the server wants one
	if err := os.Mkdir(static, 0o700); err != nil {
		return err
	}
	args := []string{"--config", file, "--static_data", static}
	t.server, err = process.Start(process.Command{Program: path, Args: args, Dir: env.Dir, Name: "tinode"})
	if err != nil {
		return err
	}
	if err := t.server.Ready(ctx, process.TCP(t.address)); err != nil {
		return err
	}
	return t.server.Ready(ctx, t.findPIDs)
}

// startDatabase starts PostgreSQL, which refuses to be root.
func (t *Target) startDatabase(ctx context.Context, address string) error {
	bin, err := findPostgres()
	if err != nil {
		return err
	}
	dir := filepath.Join(t.env.Dir, "postgres")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var as []string
	if os.Getuid() == 0 {
		if as, err = handOver(t.env.Dir, dir); err != nil {
			return err
		}
	}
	data := filepath.Join(dir, "data")
	initdb := append(as, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C")
	command := exec.CommandContext(ctx, initdb[0], initdb[1:]...)
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("tinode: initdb: %w\n%s", err, out)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	serve := append(as, filepath.Join(bin, "postgres"), "-D", data, "-p", port, "-k", dir,
		"-c", "listen_addresses="+host, "-c", "autovacuum=off", "-c", "shared_buffers=256MB")
	t.database, err = process.Start(process.Command{Program: serve[0], Args: serve[1:], Dir: t.env.Dir, Name: "postgres"})
	if err != nil {
		return err
	}
	return t.database.Ready(ctx, process.TCP(address))
}

// handOver gives dir within parent to the user postgres and returns the command
// that runs a program as that user, in the same process.
func handOver(parent, dir string) ([]string, error) {
	who, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(who.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(who.Gid)
	if err != nil {
		return nil, err
	}
	setpriv, err := program.Find("setpriv")
	if err != nil {
		return nil, err
	}
	err = errors.Join(os.Chmod(parent, 0o711), os.Chown(dir, uid, gid))
	as := []string{setpriv, "--reuid", who.Uid, "--regid", who.Gid, "--clear-groups"}
	return as[:len(as):len(as)], err // clipped: it is appended to twice
}

// findPostgres returns the directory of PostgreSQL's programs, which Debian does
// not put into PATH.
func findPostgres() (string, error) {
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err == nil && len(dirs) > 0 {
		return filepath.Dir(dirs[len(dirs)-1]), nil
	}
	initdb, err := program.Find("initdb")
	return filepath.Dir(initdb), err
}

// version returns the version that a program was built from; a module that
// requires it knows, even if it was not built in its own.
func version(path string) string {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == "github.com/tinode/chat" {
			return strings.TrimPrefix(m.Version, "v")
		}
	}
	return "unknown"
}

// findPIDs notes the processes as soon as the pool of connections is full.
func (t *Target) findPIDs(context.Context) error {
	parent := t.database.PID()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	if err != nil {
		return err
	}
	children := bytes.Fields(raw)
	if len(children) < poolSize {
		return fmt.Errorf("tinode: PostgreSQL has %d processes", len(children))
	}
	t.pids = []int{t.server.PID(), parent}
	for _, child := range children {
		pid, err := strconv.Atoi(string(child))
		if err != nil {
			return err
		}
		t.pids = append(t.pids, pid)
	}
	return nil
}

// Stop stops what was started.
func (t *Target) Stop() error {
	var errs []error
	for _, p := range []*process.Process{t.server, t.database} {
		if p != nil {
			errs = append(errs, p.Stop())
		}
	}
	t.server, t.database = nil, nil
	return errors.Join(errs...)
}

// PIDs are the server and the database.
func (t *Target) PIDs() []int { return t.pids }

// Group is not driven.
func (t *Target) Group(context.Context, string, []string) error { return peer.ErrCannot }

// Connect opens a connection for a user, and a conversation with the user who
// connected before.
func (t *Target) Connect(ctx context.Context, u peer.User, h peer.Handler) (peer.Client, error) {
	c, err := t.dial(ctx, u.Name, h)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	partner := t.last
	t.last = c
	t.clients[u.Name] = c
	t.mu.Unlock()
	if partner == nil || partner.uid == c.uid {
		return c, nil
	}
	err = c.subscribe(ctx, partner.uid)
	if err == nil {
		err = partner.subscribe(ctx, c.uid)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.topic.Store(&partner.uid)
	partner.topic.CompareAndSwap(nil, &c.uid) // the first one
	return c, nil
}

// deliver hands a message to whom it is for.
func (t *Target) deliver(d data) {
	t.mu.Lock()
	to := t.clients[string(d.to)]
	t.mu.Unlock()
	if to != nil {
		to.receive(d.body)
	}
}

func (t *Target) account(name string) (account, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.accounts[name]
	return a, ok
}

func (t *Target) remember(name string, a account) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.accounts[name] = a
}

// forget takes a connection off the list, unless its user has another one.
func (t *Target) forget(c *client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.clients[c.name] == c {
		delete(t.clients, c.name)
	}
	if t.last == c {
		t.last = nil
	}
}
