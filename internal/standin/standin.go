// Command standin is a test-only stand-in for MongoDB.
//
// It runs FerretDB on SQLite inside the process and puts a small wire proxy in
// front of it. The proxy supplies what FerretDB lacks and a store must be tested
// against: it poses as the primary of a one-member replica set, lets one write
// through at a time, answers retried writes from memory, and injects faults.
// README.md says what a test against it proves, and what it does not.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
)

// Config says where a stand-in listens and keeps its data.
type Config struct {
	Listen    string // for MongoDB clients
	Advertise string // told to clients as the member's address; empty: the listening one
	Control   string // for the faults' HTTP endpoint
	Data      string // existing directory; empty: a temporary one, removed at the end
	Logger    *slog.Logger
}

// Standin is a running stand-in.
type Standin struct {
	advertised string
	control    net.Listener
	done       chan struct{}
	cleanup    error // static once done is closed
}

// Start returns once clients can connect. The stand-in runs until ctx ends.
func Start(ctx context.Context, config Config) (_ *Standin, err error) {
	ctx, cancel := context.WithCancel(ctx)
	cleanup := func() error { return nil }
	defer func() {
		if err != nil {
			cancel()
			err = errors.Join(err, cleanup())
		}
	}()

	data := config.Data
	if data == "" {
		if data, err = os.MkdirTemp("", "standin-"); err != nil {
			return nil, err
		}
		cleanup = func() error { return os.RemoveAll(data) }
	}

	var listen net.ListenConfig
	clients, err := listen.Listen(ctx, "tcp", config.Listen)
	if err != nil {
		return nil, fmt.Errorf("listening for clients: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = clients.Close() })
	control, err := listen.Listen(ctx, "tcp", config.Control)
	if err != nil {
		return nil, fmt.Errorf("listening for control: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = control.Close() })
	backend, err := startBackend(ctx, data, config.Logger)
	if err != nil {
		return nil, err
	}

	advertised := config.Advertise
	if advertised == "" {
		advertised = clients.Addr().String()
	}
	faults := newFaults()
	proxy := &Proxy{
		backend: backend.address,
		member:  member{address: advertised},
		faults:  faults,
		log:     config.Logger,
		history: newHistory(historySessions, historyBytes),
	}
	server := &http.Server{Handler: controlHandler(faults)}
	context.AfterFunc(ctx, func() { _ = server.Close() })

	s := &Standin{advertised: advertised, control: control, done: make(chan struct{})}
	var running sync.WaitGroup
	running.Go(func() { proxy.Serve(ctx, clients) })
	running.Go(func() { _ = server.Serve(control) })
	go func() {
		defer close(s.done)
		defer cancel()
		running.Wait()
		<-backend.done
		s.cleanup = cleanup()
	}()
	return s, nil
}

// URI is what a MongoDB client connects to.
func (s *Standin) URI() string {
	return "mongodb://" + s.advertised + "/?replicaSet=" + setName
}

// ControlURL is where faults are set.
func (s *Standin) ControlURL() string { return "http://" + s.control.Addr().String() }

// Wait returns when everything the stand-in started has ended.
func (s *Standin) Wait() error {
	<-s.done
	return s.cleanup
}
