//go:build linux

// Command relay hands messages from connection to connection and does nothing
// else: what it costs, no server on the same machine can do without. It looks
// at the routing field and at nothing else, keeps what is durable in a log that
// nobody reads, and drops what is for users who are away.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "HOST:PORT to listen on")
	kind := flag.String("kind", "tcp", "tcp: messages with a length, event loop; ws: WebSocket, event loop; coder: WebSocket by coder/websocket, a goroutine for each connection")
	log := flag.String("log", "", "file for durable messages; tcp and ws only")
	flag.Parse()
	if err := run(*listen, *kind, *log); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(listen, kind, log string) error {
	switch kind {
	case "tcp":
		return serveLoop(listen, log, tcp{})
	case "ws":
		return serveLoop(listen, log, webSocket{})
	case "coder":
		return serveCoder(listen)
	}
	return errors.New("relay: no such kind: " + kind)
}
