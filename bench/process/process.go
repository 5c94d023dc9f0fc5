// Package process starts server processes, waits for them, ends them, and reads
// what they use.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 30 * time.Second
)

// Process is one server process.
type Process struct {
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
	err    error // how it ended; after exited
}

// Command says what is started.
type Command struct {
	Program string
	Args    []string
	Dir     string    // where the log goes
	Name    string    // of the log, without .log
	Env     []string  // nil: that of this process
	Stdout  io.Writer // nil: to the log
}

// Start starts a program. It is ended by Stop, whatever happens to a context.
func Start(c Command) (*Process, error) {
	p := &Process{log: filepath.Join(c.Dir, c.Name+".log"), exited: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own
	p.cmd = exec.Command(c.Program, c.Args...)
	p.cmd.Env = c.Env
	p.cmd.Stdout, p.cmd.Stderr = c.Stdout, log
	if c.Stdout == nil {
		p.cmd.Stdout = log
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// PID returns the id of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log returns the end of what the process has logged, for people.
func (p *Process) Log() string {
	const most = 2000
	raw, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-most):])
}

// Ready waits until ask succeeds. An error holds the end of the log.
func (p *Process) Ready(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-p.exited:
			return fmt.Errorf("process: %s ended before it was ready: %w\n%s", p.cmd.Path, p.err, p.Log())
		case <-ctx.Done():
			return fmt.Errorf("process: %s is not ready: %w\n%s", p.cmd.Path, errors.Join(context.Cause(ctx), err), p.Log())
		}
	}
}

// HTTP asks whether GET url answers 200.
func HTTP(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	}
}

// TCP asks whether HOST:PORT takes connections.
func TCP(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return nc.Close()
	}
}

// Stop asks the process to end, and ends it when it does not.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("process: %s had to be killed", p.cmd.Path), p.cmd.Process.Kill())
	}
}

// Output runs a program and returns what it prints, for asking its version.
func Output(ctx context.Context, program string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("process: %s: %w\n%s", program, err, text)
	}
	return text, nil
}

// FreePorts returns ports that nobody listens on at the moment, on TCP.
func FreePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at the end, so that no port comes twice
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
