package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// asCommand makes the test binary behave as the command, so that a test can kill it.
const asCommand = "STANDIN_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process is a stand-in running as a process of its own.
type process struct {
	URI     string
	Control string
	command *exec.Cmd
	stdin   io.Closer
}

func startProcess(t testing.TB, args ...string) *process {
	t.Helper()
	command := exec.Command(os.Args[0], append(args, "--until-stdin-closes")...)
	command.Env = append(os.Environ(), asCommand+"=1")
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{command: command, stdin: stdin}
	t.Cleanup(p.stop)
	if err := json.NewDecoder(stdout).Decode(p); err != nil {
		t.Fatalf("reading what the command prints when ready: %v", err)
	}
	return p
}

// kill ends the process with SIGKILL and waits until it is gone.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

// stop ends the process in good order.
func (p *process) stop() {
	_ = p.stdin.Close()
	_ = p.command.Wait()
}

// connect returns a database of its own on the stand-in, as strict as a store would have it.
func connect(t testing.TB, uri string) *mongo.Database {
	t.Helper()
	return connectOptions(t, options.Client().ApplyURI(uri).SetRetryWrites(true))
}

func connectOptions(t testing.TB, config *options.ClientOptions) *mongo.Database {
	t.Helper()
	client, err := mongo.Connect(config.
		SetTimeout(60 * time.Second). // With a timeout the driver retries until it has passed.
		SetReadConcern(readconcern.Majority()).
		SetWriteConcern(&writeconcern.WriteConcern{W: "majority", Journal: new(true)}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	return client.Database("test")
}

// start runs a stand-in in this process and connects to it.
func start(t testing.TB) (*mongo.Database, control) {
	t.Helper()
	return startLogging(t, quiet(t))
}

func startLogging(t testing.TB, log *slog.Logger) (*mongo.Database, control) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	standin, err := Start(ctx, Config{Listen: "127.0.0.1:0", Control: "127.0.0.1:0", Data: t.TempDir(), Logger: log})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := standin.Wait(); err != nil {
			t.Error(err)
		}
	})
	return connect(t, standin.URI()), control{t, standin.ControlURL()}
}

// quiet passes on to the test only what the command would print.
func quiet(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
}

// silent is for tests of what is rightly logged as an error.
func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// newControl serves nothing but the faults.
func newControl(t testing.TB) control {
	server := httptest.NewServer(controlHandler(newFaults()))
	t.Cleanup(server.Close)
	return control{t, server.URL}
}

// control sets faults over HTTP.
type control struct {
	t   testing.TB
	url string
}

func (c control) add(fault string) {
	c.t.Helper()
	if status, body := c.do(http.MethodPost, fault); status != http.StatusCreated {
		c.t.Fatalf("adding %s: %d %s", fault, status, body)
	}
}

func (c control) list() []FaultStatus {
	c.t.Helper()
	_, body := c.do(http.MethodGet, "")
	var faults []FaultStatus
	if err := json.Unmarshal(body, &faults); err != nil {
		c.t.Fatal(err)
	}
	return faults
}

func (c control) do(method, body string) (int, []byte) {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.url+"/faults", bytes.NewBufferString(body))
	if err != nil {
		c.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, answer
}

// all reads a whole cursor.
func all(t testing.TB, cursor *mongo.Cursor, err error) []bson.M {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var documents []bson.M
	if err := cursor.All(t.Context(), &documents); err != nil {
		t.Fatal(err)
	}
	return documents
}
