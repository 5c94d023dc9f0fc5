package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

var errStdinClosed = errors.New("standard input was closed")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

// run is the whole command: it returns when ctx ends, which is not an error.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	var config Config
	flags := flag.NewFlagSet("standin", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&config.Listen, "listen", "127.0.0.1:0", "`address` for MongoDB clients")
	flags.StringVar(&config.Advertise, "advertise", "", "`address` told to clients as this member's own (default: the listening one); for a relay in between")
	flags.StringVar(&config.Control, "control", "127.0.0.1:0", "`address` of the HTTP endpoint for faults")
	flags.StringVar(&config.Data, "data", "", "existing `directory` for the data (default: a temporary one, removed at the end)")
	untilStdinCloses := flags.Bool("until-stdin-closes", false, "also end when standard input closes, so that a killed parent leaves no orphan")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if *untilStdinCloses {
		// The read cannot be interrupted: it is left behind when the process ends.
		go func() {
			_, _ = io.Copy(io.Discard, stdin)
			cancel(errStdinClosed)
		}()
	}

	// FerretDB reports refused commands and ended connections as warnings; only its bugs are errors.
	config.Logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	standin, err := Start(ctx, config)
	if err != nil {
		return err
	}
	ready := struct {
		URI     string `json:"uri"`
		Control string `json:"control"`
	}{standin.URI(), standin.ControlURL()}
	if err := json.NewEncoder(stdout).Encode(ready); err != nil {
		cancel(err)
	}
	return errors.Join(err, standin.Wait())
}
