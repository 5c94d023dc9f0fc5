package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"

	"github.com/FerretDB/FerretDB/ferretdb"
)

// backend is the embedded FerretDB. Embedded, it never starts its telemetry.
type backend struct {
	address string
	done    chan struct{} // closed once the data is no longer touched
}

func startBackend(ctx context.Context, directory string, log *slog.Logger) (*backend, error) {
	uri, err := sqliteURI(directory)
	if err != nil {
		return nil, err
	}
	db, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: "127.0.0.1:0"},
		Handler:   "sqlite",
		SQLiteURL: uri,
		Logger:    log,
	})
	if err != nil {
		return nil, fmt.Errorf("starting FerretDB: %w", err)
	}
	b := &backend{done: make(chan struct{})}
	go func() {
		defer close(b.done)
		_ = db.Run(ctx)
	}()
	listening, err := url.Parse(db.MongoDBURI())
	if err != nil {
		return nil, fmt.Errorf("address of FerretDB: %w", err)
	}
	b.address = listening.Host
	return b, nil
}

// sqliteURI tunes SQLite for a test. What it hands to the operating system survives
// the end of the process, so it never waits for the disk; power loss is not survived.
func sqliteURI(directory string) (string, error) {
	path, err := filepath.Abs(directory)
	if err != nil {
		return "", err
	}
	query := url.Values{"_pragma": {
		"busy_timeout(10000)",
		"journal_mode(wal)",
		"synchronous(off)",
		"temp_store(memory)",
	}}
	uri := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path) + "/", RawQuery: query.Encode()}
	return uri.String(), nil
}
