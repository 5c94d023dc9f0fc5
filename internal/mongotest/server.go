package mongotest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"testing"
)

// Server is a stand-in that one test has for itself, to break it. Its methods
// are for the test's goroutine.
type Server struct {
	URI     string // stays the same over Kill and Restart
	Control string // URL of the endpoint for faults

	t       testing.TB
	data    string
	process *process // nil while killed
}

// Start starts a stand-in, which ends with the test. It skips the test when
// MONGODB_URI is set: a real MongoDB has no faults to inject.
func Start(t testing.TB) *Server {
	t.Helper()
	if os.Getenv(EnvURI) != "" {
		t.Skipf("this test injects faults; a real MongoDB (%s) has none", EnvURI)
	}
	s := &Server{t: t, data: t.TempDir()}
	process, err := launch(config{data: s.data})
	if err != nil {
		unavailable(t, err)
	}
	s.process, s.URI, s.Control = process, process.uri, process.control
	t.Cleanup(func() {
		if s.process != nil {
			s.process.stop()
		}
	})
	return s
}

// Kill ends the stand-in at once, with all its connections.
func (s *Server) Kill() {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatal("Kill of a stand-in that does not run")
	}
	s.process.kill()
	s.process = nil
}

// Restart starts a killed stand-in again: same data, same addresses, no faults.
func (s *Server) Restart() {
	s.t.Helper()
	if s.process != nil {
		s.t.Fatal("Restart of a stand-in that runs")
	}
	host := func(address string) string {
		u, err := url.Parse(address)
		if err != nil {
			s.t.Fatal(err)
		}
		return u.Host
	}
	process, err := launch(config{listen: host(s.URI), control: host(s.Control), data: s.data})
	if err != nil {
		s.t.Fatal(err)
	}
	s.process = process
}

// Kind is what a [Fault] does to a command. The README of internal/standin
// says more.
type Kind string

// The kinds of faults.
const (
	ReplyLost    Kind = "reply_lost"    // applied, then the connection is cut
	Unreachable  Kind = "unreachable"   // applied, then HostUnreachable instead of the reply
	NotPrimary   Kind = "not_primary"   // NotWritablePrimary, not applied
	WriteConcern Kind = "write_concern" // applied, but the reply carries a writeConcernError
	Stall        Kind = "stall"         // delayed, then applied
	Cut          Kind = "cut"           // the connection is cut, not applied
	DiskFull     Kind = "disk_full"     // OutOfDiskSpace, not applied; writes only
)

// Fault says which commands are hit, how, and how often.
type Fault struct {
	Kind        Kind     `json:"kind"`
	Commands    []string `json:"commands,omitempty"`    // none: all but hello, ping and the like
	Collections []string `json:"collections,omitempty"` // none: all
	Probability float64  `json:"probability,omitzero"`  // 0: always
	Count       int      `json:"count,omitzero"`        // after so many it is over; 0: never
	DelayMS     int      `json:"delay_ms,omitzero"`     // of a stall
	Seed        uint64   `json:"seed,omitzero"`         // 0: one is chosen
}

// Status is what has become of a fault.
type Status struct {
	ID int `json:"id"`
	Fault
	Seen  int `json:"seen"`  // commands that it could have hit
	Fired int `json:"fired"` // commands that it did hit
}

// Inject puts a fault in force until [Server.ClearFaults].
func (s *Server) Inject(f Fault) Status {
	s.t.Helper()
	return call[Status](s, http.MethodPost, f)
}

// Faults returns the faults in force and those that are over.
func (s *Server) Faults() []Status {
	s.t.Helper()
	return call[[]Status](s, http.MethodGet, nil)
}

// ClearFaults ends all faults and returns what had become of them.
func (s *Server) ClearFaults() []Status {
	s.t.Helper()
	return call[[]Status](s, http.MethodDelete, nil)
}

func call[T any](s *Server, method string, body any) (result T) {
	s.t.Helper()
	if err := s.call(method, body, &result); err != nil {
		s.t.Fatalf("%s faults: %v", method, err)
	}
	return result
}

func (s *Server) call(method string, body, result any) error {
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.Control+"/faults", payload)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode >= 300 {
		text, _ := io.ReadAll(response.Body)
		return fmt.Errorf("%s: %s", response.Status, text)
	}
	return json.NewDecoder(response.Body).Decode(result)
}
