package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2 // the command line or the configuration is wrong
)

// program is the command line: what the commands share, and the commands.
// Tests make one of their own.
type program struct {
	Serve      serveCmd      `cmd:"" help:"Run a server."`
	Demo       demoCmd       `cmd:"" help:"Run three servers in one process and show what to do with them."`
	Config     configCmd     `cmd:"" help:"Show the configuration."`
	Doctor     doctorCmd     `cmd:"" help:"Look at the machine and the configuration as serve would, and print what to change and why."`
	Token      tokenCmd      `cmd:"" help:"Make an auth key."`
	Send       sendCmd       `cmd:"" help:"Send one message and wait until the server has taken it."`
	Listen     listenCmd     `cmd:"" help:"Print the messages for a device, one a line, and acknowledge them."`
	History    historyCmd    `cmd:"" help:"Print messages of a log that are there already."`
	Session    sessionCmd    `cmd:"" help:"Make a session, join it, and decide who else does."`
	Revoke     revokeCmd     `cmd:"" help:"Make auth keys worth nothing, for the app."`
	Nodes      nodesCmd      `cmd:"" help:"Show the servers, for the app."`
	Edges      edgesCmd      `cmd:"" help:"Show where a device, a user or a session can be reached, for the app."`
	Sessions   sessionsCmd   `cmd:"" help:"Show sessions and who is in them."`
	Inbox      inboxCmd      `cmd:"" help:"Show what waits for a device, for the app."`
	Trace      traceCmd      `cmd:"" help:"Show what has become of a message."`
	Drain      drainCmd      `cmd:"" help:"Have a server leave the mesh in peace and end, for the app."`
	Disconnect disconnectCmd `cmd:"" help:"End the connections of a device or a user, for the app."`
	Push       pushCmd       `cmd:"" help:"Try push notifications, and show those that were given up."`
	Hooks      hooksCmd      `cmd:"" help:"Show how far the receivers of events have got, or have events sent again, for the app."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

// system is what the process was given by the one who started it.
type system struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	env    map[string]string
}

// lookupEnv is os.LookupEnv for the environment given.
func (s *system) lookupEnv(name string) (string, bool) {
	value, ok := s.env[name]
	return value, ok
}

// run is the whole program. It returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, environ []string) int {
	sys := &system{stdin, stdout, stderr, make(map[string]string, len(environ))}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		sys.env[name] = value
	}

	var p program
	helped := false
	opts := append(p.options(),
		kong.Name("allspark"),
		kong.Description("A mesh of servers that carries messages between devices and never loses one it has acknowledged."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }), // called for --help only
		kong.Vars{"settings": settingsHelp},
		kong.Bind(sys),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	parser, err := kong.New(&p, opts...)
	if err != nil {
		return report(stderr, "", err)
	}
	kctx, err := parser.Parse(args)
	if helped {
		return exitOK
	}
	if err != nil {
		fmt.Fprintln(stderr, "allspark:", err)
		return exitUsage
	}
	return report(stderr, commandName(kctx), kctx.Run())
}

// options returns what kong needs to know about the commands with a configuration.
func (p *program) options() []kong.Option {
	return slices.Concat(p.Serve.Options(), p.Config.Print.Options(), p.Doctor.Options())
}

// commandName returns the name of the command chosen, without its arguments.
func commandName(kctx *kong.Context) string {
	name, _, _ := strings.Cut(kctx.Command(), " <")
	return name
}

// report tells why a command failed, in one line or one for each problem of
// the configuration, and returns the exit code.
func report(stderr io.Writer, command string, err error) int {
	if err == nil {
		return exitOK
	}
	prefix := "allspark: "
	if command != "" {
		prefix += command + ": "
	}
	if problems, ok := errors.AsType[config.Problems](err); ok {
		for _, p := range problems {
			fmt.Fprintln(stderr, prefix+p.Error())
		}
		return exitUsage
	}
	fmt.Fprintln(stderr, prefix+strings.ReplaceAll(err.Error(), "\n", "; "))
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// usageError says what is wrong with the command line.
type usageError string

// Error implements error.
func (e usageError) Error() string { return string(e) }
