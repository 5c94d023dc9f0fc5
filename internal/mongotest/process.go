package mongotest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"
)

// startTimeout is how long a stand-in may take until it serves.
const startTimeout = 30 * time.Second

// config says how to start a stand-in; empty means that it chooses.
type config struct{ listen, control, data string }

// process is a running stand-in.
type process struct {
	uri     string
	control string
	command *exec.Cmd
	stdin   io.Closer // closed, it ends; so it ends when this process does
	stderr  *tail
}

// launch builds and starts a stand-in and returns when it serves.
func launch(c config) (*process, error) {
	binary, err := build()
	if err != nil {
		return nil, err
	}
	args := []string{"--until-stdin-closes"}
	for _, option := range [][2]string{{"--listen", c.listen}, {"--control", c.control}, {"--data", c.data}} {
		if option[1] != "" {
			args = append(args, option[0], option[1])
		}
	}
	p := &process{command: exec.Command(binary, args...), stderr: &tail{}}
	p.command.Stderr = p.stderr
	if p.stdin, err = p.command.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	late := time.AfterFunc(startTimeout, func() { _ = p.command.Process.Kill() })
	defer late.Stop()
	var ready struct{ URI, Control string }
	if err := json.NewDecoder(stdout).Decode(&ready); err != nil {
		p.kill()
		return nil, fmt.Errorf("the stand-in did not start: %w\n%s", err, p.stderr)
	}
	p.uri, p.control = ready.URI, ready.Control
	return p, nil
}

// kill ends the process without a chance to tidy up, and waits for its end.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

// stop lets the process tidy up.
func (p *process) stop() {
	_ = p.stdin.Close()
	late := time.AfterFunc(startTimeout, func() { _ = p.command.Process.Kill() })
	defer late.Stop()
	_ = p.command.Wait()
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte // guarded by mu
}

const tailBytes = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - tailBytes; extra > 0 {
		t.text = bytes.Clone(t.text[extra:])
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
