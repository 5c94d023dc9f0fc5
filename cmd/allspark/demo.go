package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
	"github.com/allsparkrt/allspark/cmd/allspark/internal/memory"
	"github.com/allsparkrt/allspark/cmd/allspark/internal/server"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/store/embedded"
)

// demoServers is how many servers the demo runs.
const demoServers = 3

// demoKeyLife is how long the demo's auth keys are valid.
const demoKeyLife = 30 * 24 * time.Hour

// demoCmd runs a small mesh in one process: real sockets, gossip and peer
// links between its servers, over one embedded store.
type demoCmd struct {
	JSON       bool   `name:"json" help:"Print one line of JSON when ready, in place of the walk-through."`
	Data       string `placeholder:"DIR" help:"Directory to keep messages in. Default: a temporary one, removed at the end."`
	ShowSecret bool   `help:"Also print the secret that the auth keys are signed with, for tools that make their own."`
	LogLevel   string `default:"warn" enum:"debug,info,warn,error" help:"Least level to log: debug, info, warn or error."`
}

// demoReady is what the demo prints when it is ready.
type demoReady struct {
	Servers     []string          `json:"servers"`
	AuthKeys    map[string]string `json:"auth_keys"`
	TokenSecret string            `json:"token_secret,omitempty"`
}

// Run runs the mesh until the process is told to end.
func (c *demoCmd) Run(ctx context.Context, sys *system) error {
	dir := c.Data
	if dir == "" {
		tmp, err := os.MkdirTemp("", "allspark-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		dir = tmp
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(sys.stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: auth.RedactAttr}))
	store, err := embedded.Open(embedded.Options{Dir: filepath.Join(dir, "store"), Logger: log})
	if err != nil {
		return err
	}
	defer func() {
		if err := store.Close(); err != nil {
			log.Error("the store did not close well", "err", err)
		}
	}()
	secret, err := demoSecret(filepath.Join(dir, "demo-secret"))
	if err != nil {
		return err
	}

	defer memory.Tend()()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var running errgroup.Group
	defer running.Wait() //nolint:errcheck // reported below when it matters
	mesh, err := startDemo(ctx, &running, secret, store, log)
	if err != nil {
		stop()
		return errors.Join(err, running.Wait())
	}
	ready, err := describeDemo(mesh, secret)
	if err != nil {
		return err
	}
	if c.ShowSecret {
		ready.TokenSecret = secret
	}
	if c.JSON {
		err = json.NewEncoder(sys.stdout).Encode(ready)
	} else {
		err = walkThrough(sys.stdout, ready)
	}
	if err != nil {
		return err
	}
	return running.Wait()
}

// startDemo starts the servers one after the other and waits until each is
// linked to all others.
func startDemo(ctx context.Context, running *errgroup.Group, secret string, store server.Store, log *slog.Logger) ([]*server.Server, error) {
	meshKey := rand.Text()
	var mesh []*server.Server
	var seeds []string
	for i := range demoServers {
		name := fmt.Sprintf("demo-%d", i+1)
		s, err := server.Listen(config.Config{
			NodeID: name, Host: "127.0.0.1", GossipHost: "127.0.0.1", PeerHost: "127.0.0.1",
			Presence: true, MaxConnections: 10_000, MaxFrameBytes: envelope.DefaultMaxFrame, DrainTimeout: 2 * time.Second,
			Origins: []string{"localhost:*", "127.0.0.1:*"}, // pages that are tried out on this machine
			Guests:  true, GuestTTL: 24 * time.Hour, GuestRate: 20, TokenMaxTTL: 365 * 24 * time.Hour,
			ClusterID: "allspark-demo", MeshKey: meshKey, Join: seeds, TokenSecret: secret,
			Force: true, // the store's lock shows that nobody else runs this demo
		}, log.With("server", name), store)
		if err != nil {
			return nil, err
		}
		failed := make(chan error, 1)
		running.Go(func() error {
			err := s.Run(ctx)
			failed <- err
			return err
		})
		select {
		case <-s.Ready():
		case err := <-failed:
			return nil, err
		}
		mesh = append(mesh, s)
		seeds = append(seeds, s.Node().Graph().Self().Gossip)
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for _, s := range mesh {
		for s.Node().PeerLinks() < demoServers-1 {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	}
	return mesh, nil
}

// demoSecret returns the secret kept in a file, made at the first start, so
// that keys printed before a restart stay good.
func demoSecret(file string) (string, error) {
	kept, err := os.ReadFile(file)
	if err == nil {
		return strings.TrimSpace(string(kept)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	secret := rand.Text() + rand.Text()
	// Written beside and renamed: a file half written would be kept for ever.
	if err := os.WriteFile(file+".new", []byte(secret+"\n"), 0o600); err != nil {
		return "", err
	}
	return secret, os.Rename(file+".new", file)
}

func describeDemo(mesh []*server.Server, secret string) (demoReady, error) {
	ready := demoReady{AuthKeys: make(map[string]string)}
	for _, s := range mesh {
		ready.Servers = append(ready.Servers, s.URL())
	}
	now := time.Now()
	for _, name := range []string{"alice", "bob"} {
		key, err := auth.Mint(auth.MintKey{Secret: auth.Secret(secret)}, auth.Claims{
			Client: envelope.ClientID(name), Issued: now, Expires: now.Add(demoKeyLife),
		})
		if err != nil {
			return ready, err
		}
		ready.AuthKeys[name] = key
	}
	return ready, nil
}

var walkThroughText = template.Must(template.New("").Parse(`Three servers of one mesh are running:
{{range .Servers}}  {{.}}
{{end}}
Paste this into another terminal{{if .GoRun}}, in the folder of the checkout{{end}}.

  ALICE={{.AuthKeys.alice}}
  BOB={{.AuthKeys.bob}}
{{with .TokenSecret}}
More auth keys, such as one of the app, come from {{$.Command}} token --client backend --app with

  export ALLSPARK_TOKEN_SECRET={{.}}
{{end}}
Bob is away. Alice sends through the first server; the acknowledgement means
that the message is on disk:

  curl -s {{index .Servers 0}}/v1/messages -H "Authorization: Bearer $ALICE" -d '{"id":"'$(date +%s)'","dest_id":"bob","payload":"Hello Bob"}'

Bob comes back, at the third server, and it is there:

  {{.Command}} listen --server {{index .Servers 2}} --auth-key $BOB --count 1

Bob listens in the background while Alice, at the first server, says more:

  {{.Command}} listen --server {{index .Servers 1}} --auth-key $BOB --count 1 &
  {{.Command}} send --server {{index .Servers 0}} --auth-key $ALICE --to bob "Are you there?"; wait

A client of your own asks where to connect, gets a token that is good for one
minute and once, and opens a WebSocket there. The same with nothing but curl,
for Alice, while Bob sends her something that is not to be stored:

  WHERE=$(curl -s -X POST {{index .Servers 1}}/v1/connect -H "Authorization: Bearer $ALICE")
  URL=$(echo "$WHERE" | grep -o '"url":"[^"]*"' | head -1 | cut -d'"' -f4)
  TOKEN=$(echo "$WHERE" | grep -o '"validation_token":"[^"]*"' | head -1 | cut -d'"' -f4)
  (sleep 4; curl -s -o /dev/null {{index .Servers 0}}/v1/messages -H "Authorization: Bearer $BOB" -d '{"dest_id":"alice","class":"volatile","payload":"Hello WebSocket"}') &
  curl -sN --max-time 6 --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
    -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' "$URL/ws?token=$TOKEN" | grep -ao '{.*}'

Who has no account gets an identity with one call, and joins what Alice has
made under a name of its own choice; who it is nobody learns, Alice included:

  curl -s {{index .Servers 0}}/v1/sessions -H "Authorization: Bearer $ALICE" -d '{"session_id":"lobby"}'
  GUEST=$(curl -s -X POST {{index .Servers 1}}/v1/guests | grep -o '"auth_key":"[^"]*"' | cut -d'"' -f4)
  curl -s {{index .Servers 2}}/v1/sessions/lobby/join -H "Authorization: Bearer $GUEST" -d '{"alias":"zorro'$RANDOM'"}'
  curl -s {{index .Servers 1}}/v1/messages -H "Authorization: Bearer $GUEST" -d '{"id":"1","dest_session_id":"lobby","payload":"Who am I?"}'
  curl -s "{{index .Servers 0}}/v1/messages?log=session:lobby" -H "Authorization: Bearer $ALICE"

Ctrl-C ends the demo.
`))

func walkThrough(w io.Writer, ready demoReady) error {
	command := os.Args[0]
	goRun := strings.Contains(command, "go-build")
	if goRun {
		command = "go run ./cmd/allspark"
	}
	return walkThroughText.Execute(w, struct {
		demoReady
		Command string
		GoRun   bool
	}{ready, command, goRun})
}
