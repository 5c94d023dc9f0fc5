package target

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
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 30 * time.Second
)

// process is one server process.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // how it ended; after exited
}

// build compiles the server into dir and returns the program's path. It must
// be called within the module.
func build(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "allspark")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/allsparkrt/allspark/cmd/allspark")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("target: building the server: %w\n%s", err, out)
	}
	return program, nil
}

// start starts a program whose log goes to a file in dir. stdout may be nil.
func start(program, dir, name string, stdout io.Writer, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own
	cmd := exec.Command(program, args...)
	// The configuration of another server must not reach this one.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "ALLSPARK_") })
	cmd.Stdout, cmd.Stderr = stdout, log
	if stdout == nil {
		cmd.Stdout = log
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// ready waits until the server answers GET /readyz with 200.
func (p *process) ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-p.exited:
			return fmt.Errorf("target: the server ended before it was ready: %w", p.err)
		case <-ctx.Done():
			return fmt.Errorf("target: %s is not ready: %w", url, context.Cause(ctx))
		}
	}
}

// stop asks the process to end, and ends it when it does not.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(errors.New("target: a server had to be killed"), p.cmd.Process.Kill())
	}
}

// freePorts returns ports that nobody listens on at the moment, on TCP.
func freePorts(n int) ([]int, error) {
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
