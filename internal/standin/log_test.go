package main

import (
	"log/slog"
	"testing"
)

// quiet passes on to the test only what the command would print.
func quiet(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
}
