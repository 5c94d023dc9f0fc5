package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/allsparkrt/allspark/bench/scenario"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
)

// drive runs the command against s, and returns what it printed.
func drive(t *testing.T, s *clienttest.Server, flags ...string) (scenario.Report, error) {
	t.Helper()
	srv := httptest.NewServer(s)
	defer srv.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 40)), 0o600); err != nil {
		t.Fatal(err)
	}
	var cmd p2pCmd
	k, err := kong.New(&cmd)
	if err != nil {
		t.Fatal(err)
	}
	flags = append(flags, "--servers", srv.URL, "--auth-secret-file", secret, "--devices", "5", "--messages", "200", "--json")
	if _, err := k.Parse(flags); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	runErr := cmd.Run(t.Context(), &out)
	var rep scenario.Report
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
		t.Fatalf("%v in %s", err, &out)
	}
	return rep, runErr
}

func TestGoodRun(t *testing.T) {
	rep, err := drive(t, new(clienttest.Server), "--class", "volatile")
	if err != nil || rep.Received != 200 || rep.Class != "volatile" || rep.Servers != 1 || rep.Target != "running" {
		t.Errorf("%+v, %v", rep, err)
	}
}

func TestBrokenPromiseIsAnError(t *testing.T) {
	lose := func(c *clienttest.Conn, e envelope.Envelope) bool {
		if !strings.HasSuffix(e.ID, "-3") {
			return false
		}
		c.Take(e, 0)
		return true
	}
	rep, err := drive(t, &clienttest.Server{OnMessage: lose}, "--settle", "100ms")
	if !errors.Is(err, errBroken) || rep.Lost == 0 {
		t.Errorf("%+v, %v", rep, err)
	}
}
