package main

import (
	"context"
	"io"
	"log/slog"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
	"github.com/allsparkrt/allspark/cmd/allspark/internal/doctor"
	"github.com/allsparkrt/allspark/cmd/allspark/internal/memory"
	"github.com/allsparkrt/allspark/cmd/allspark/internal/server"
)

// serveCmd runs one server.
type serveCmd struct {
	config.Flags
}

// Run serves until the process is told to end.
func (c *serveCmd) Run(ctx context.Context, sys *system) error {
	loaded, err := c.Load(sys.lookupEnv)
	if err != nil {
		return err
	}
	cfg := loaded.Config
	log := newLogger(sys.stderr, &cfg)
	doctor.WarnOpenFiles(&cfg, log)
	s, err := server.Listen(cfg, log, nil)
	if err != nil {
		return err
	}
	defer memory.Tend()()
	return s.Run(ctx)
}

// newLogger returns the log that a configuration asks for.
func newLogger(w io.Writer, cfg *config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.Level(), ReplaceAttr: auth.RedactAttr}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
