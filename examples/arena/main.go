// Command arena is a small multiplayer game on AllSpark: players in browsers,
// without accounts and by aliases; one process that alone knows what is where,
// the session's master; and, if wanted, a second one that takes over when the
// first is lost. See README.md.
package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

//go:embed page
var files embed.FS

func main() {
	servers := flag.String("servers", "http://127.0.0.1:8420", "URLs of AllSpark servers, separated by commas")
	key := flag.String("auth-key", os.Getenv("ARENA_AUTH_KEY"), "auth key of this process's device (or ARENA_AUTH_KEY)")
	session := flag.String("session", "arena", "id of the session that the game is played in")
	deputy := flag.String("deputy", "", "device that takes over when this one is lost: another arena")
	listen := flag.String("listen", "127.0.0.1:8500", "address to serve the page at")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, *listen, Options{
		Servers: strings.Split(*servers, ","), AuthKey: *key, Session: envelope.SessionID(*session),
		Deputy: envelope.NodeID(*deputy), Log: log,
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		log.Error("the arena is closed", "err", err)
		os.Exit(1)
	}
}

// run serves the page and plays until ctx is over.
func run(ctx context.Context, listen string, o Options) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer l.Close()
	master, err := NewMaster(ctx, o)
	if err != nil {
		return err
	}
	handler, err := page(o.Servers[0], o.Session)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			o.Log.Error("the page is not served any more", "err", err)
		}
	}()
	defer server.Close()
	o.Log.Info("the arena is open", "page", "http://"+l.Addr().String())
	return master.Run(ctx)
}

// page serves the page, and tells it where to connect and what to join.
func page(server string, session envelope.SessionID) (http.Handler, error) {
	static, err := fs.Sub(files, "page")
	if err != nil {
		return nil, err
	}
	game, err := json.Marshal(map[string]string{"server": server, "session": string(session)})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(static))
	mux.HandleFunc("GET /game.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(game)
	})
	return mux, nil
}
