package main

import (
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestDataSurvivesKill(t *testing.T) {
	data := t.TempDir()
	first := startProcess(t, "--data", data)
	log := newLog(t, connect(t, first.URI))
	for seq := range 50 {
		if _, err := log.InsertOne(t.Context(), entry("a", seq)); err != nil {
			t.Fatal(err)
		}
	}
	first.kill()

	second := startProcess(t, "--data", data)
	log = connect(t, second.URI).Collection("entries")
	if n := count(t, log, bson.D{}); n != 50 {
		t.Errorf("%d entries after the restart, want 50", n)
	}
	_, err := log.InsertOne(t.Context(), entry("a", 7))
	wantCode(t, err, duplicateKey)
}

func TestEndsWhenStdinCloses(t *testing.T) {
	p := startProcess(t)
	if !strings.HasPrefix(p.URI, "mongodb://127.0.0.1:") || !strings.HasPrefix(p.Control, "http://127.0.0.1:") {
		t.Errorf("printed %q and %q", p.URI, p.Control)
	}
	_ = p.stdin.Close()
	if err := p.command.Wait(); err != nil {
		t.Error(err)
	}
}

func TestAdvertisedAddress(t *testing.T) {
	p := startProcess(t, "--advertise", "relay.test:27017")
	if p.URI != "mongodb://relay.test:27017/?replicaSet=standin" {
		t.Errorf("uri = %s", p.URI)
	}
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{{"stray"}, {"--data", "does/not/exist"}, {"--listen", "nowhere:nothing"}} {
		if err := run(t.Context(), args, nil, t.Output(), t.Output()); err == nil {
			t.Errorf("run(%q) succeeded", args)
		}
	}
}
