package program

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestVersion(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ script, want string }{
		{"echo 'nats-server: v2.15.2'", "2.15.2"},
		{"echo 'mosquitto version 2.0.11'; exit 3", "2.0.11"},
		{"echo 'on stderr 1.2-rc.3' >&2", "1.2-rc.3"},
		{"echo none", "unknown"},
	} {
		path := filepath.Join(dir, "server")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if got := Version(t.Context(), path); got != tt.want {
			t.Errorf("%s: %s", tt.script, got)
		}
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "bin", "a-peer")
	if err := os.Mkdir(filepath.Dir(program), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "")
	t.Setenv("GOBIN", "")
	t.Setenv("GOPATH", dir)
	if got, err := Find("a-peer"); got != program || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := Find("no-peer"); err == nil {
		t.Errorf("found %s", got)
	}
}

func TestAddresses(t *testing.T) {
	addresses, err := Addresses(2)
	if err != nil || addresses[0] == addresses[1] {
		t.Fatal(addresses, err)
	}
	for _, a := range addresses {
		l, err := net.Listen("tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
