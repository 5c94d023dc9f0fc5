package target

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/bench/process"
)

// The names of the targets that can be started.
const (
	Demo   = "demo"   // allspark demo: three servers in one process, one embedded store
	Serve1 = "serve1" // one server process with an embedded store
	Mongo3 = "mongo3" // three server processes over one MongoDB
)

// Options say what is started.
type Options struct {
	Name     string // Demo, Serve1 or Mongo3
	MongoURI string // of Mongo3
	Program  string // of the server; empty: it is built first
	Dir      string // an empty directory for data and logs; empty: a temporary one
}

// Start starts a target. When an error is returned, nothing runs any more.
func Start(ctx context.Context, o Options) (_ *Target, err error) {
	t := &Target{Name: o.Name, dir: o.Dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	if t.dir == "" {
		if t.dir, err = os.MkdirTemp("", "allspark-bench-"); err != nil {
			return nil, err
		}
		t.temporary = true
	}
	program := o.Program
	if program == "" {
		program = filepath.Join(t.dir, "allspark")
		if err := Build(ctx, program); err != nil {
			return nil, err
		}
	}
	switch o.Name {
	case Demo:
		err = t.startDemo(ctx, program)
	case Serve1:
		err = t.startServers(ctx, program, 1, "--data", filepath.Join(t.dir, "data"))
	case Mongo3:
		if o.MongoURI == "" {
			return nil, errors.New("target: mongo3 needs the URI of a MongoDB")
		}
		database := "allspark_bench_" + strconv.FormatInt(time.Now().UnixMilli(), 36)
		err = t.startServers(ctx, program, 3, "--mongodb-uri", o.MongoURI, "--mongodb-database", database)
	default:
		err = fmt.Errorf("target: no target is called %q", o.Name)
	}
	return t, err
}

// startServers starts n `allspark serve`. Secrets go by file: other users of
// the machine see command lines.
func (t *Target) startServers(ctx context.Context, program string, n int, storage ...string) error {
	t.Secret = auth.Secret(rand.Text() + rand.Text())
	tokenFile, err := t.secretFile("token-secret", string(t.Secret))
	if err != nil {
		return err
	}
	meshFile, err := t.secretFile("mesh-key", rand.Text()+rand.Text())
	if err != nil {
		return err
	}
	ports, err := process.FreePorts(3 * n)
	if err != nil {
		return err
	}
	for i := range n {
		client, gossip, peer := ports[3*i], ports[3*i+1], ports[3*i+2]
		args := append([]string{
			"serve", "--host", "127.0.0.1", "--port", strconv.Itoa(client),
			"--gossip-port", strconv.Itoa(gossip), "--peer-port", strconv.Itoa(peer),
			"--metrics-addr", "", "--log-level", "warn",
			// The load is a few devices that say more than thousands would.
			"--signal-rate", "0", "--device-rate", "0", "--session-rate", "0", "--max-connections", "1000000",
			"--token-secret-file", tokenFile, "--mesh-key-file", meshFile,
		}, storage...)
		if i > 0 {
			args = append(args, "--join", "127.0.0.1:"+strconv.Itoa(ports[1]))
		}
		p, err := t.start(program, fmt.Sprintf("server%d", i+1), nil, args...)
		if err != nil {
			return err
		}
		t.URLs = append(t.URLs, "http://127.0.0.1:"+strconv.Itoa(client))
		if err := p.Ready(ctx, process.HTTP(t.URLs[i]+"/readyz")); err != nil {
			return err
		}
	}
	return nil
}

func (t *Target) secretFile(name, secret string) (string, error) {
	path := filepath.Join(t.dir, name)
	return path, os.WriteFile(path, []byte(secret), 0o600)
}

// demoTimeout is how long the demo may take to say where it is.
const demoTimeout = 30 * time.Second

// demoLine is what `allspark demo --json --show-secret` prints once it is up.
type demoLine struct {
	Servers []string `json:"servers"`
	Secret  string   `json:"token_secret"`
}

func (t *Target) startDemo(ctx context.Context, program string) error {
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	p, err := t.start(program, "demo", in, "demo", "--json", "--show-secret", "--data", filepath.Join(t.dir, "data"))
	in.Close() // the process has its own
	if err != nil {
		return err
	}
	demo, err := readDemo(out)
	if err != nil {
		return err
	}
	t.URLs, t.Secret = demo.Servers, auth.Secret(demo.Secret)
	for _, url := range t.URLs {
		if err := p.Ready(ctx, process.HTTP(url+"/readyz")); err != nil {
			return err
		}
	}
	return nil
}

// readDemo reads the one JSON value that the demo prints; what it prints later
// is not needed.
func readDemo(r io.Reader) (demoLine, error) {
	if f, ok := r.(*os.File); ok {
		if err := f.SetReadDeadline(time.Now().Add(demoTimeout)); err != nil {
			return demoLine{}, err
		}
	}
	var d demoLine
	if err := json.NewDecoder(r).Decode(&d); err != nil {
		return d, fmt.Errorf("target: the demo did not say where it is: %w", err)
	}
	if len(d.Servers) == 0 || d.Secret == "" {
		return d, errors.New("target: the demo names no servers or no secret")
	}
	return d, nil
}

// Build compiles the server. It must be called within the module.
func Build(ctx context.Context, program string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/allsparkrt/allspark/cmd/allspark")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("target: building the server: %w\n%s", err, out)
	}
	return nil
}

// start starts one process of the target. stdout may be nil.
func (t *Target) start(program, name string, stdout io.Writer, args ...string) (*process.Process, error) {
	p, err := process.Start(process.Command{
		Program: program, Args: args, Dir: t.dir, Name: name, Stdout: stdout,
		// The configuration of another server must not reach this one.
		Env: slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "ALLSPARK_") }),
	})
	if err != nil {
		return nil, err
	}
	t.processes = append(t.processes, p)
	t.PIDs = append(t.PIDs, p.PID())
	return p, nil
}
