package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/node"
)

// webServers are the HTTP servers on the listeners.
type webServers struct {
	servers []*http.Server
	failed  chan error
	log     *log.Logger
}

// serveHTTP starts answering on all ports. Until the node is up, clients hear
// that the server is not ready.
func (s *Server) serveHTTP() *webServers {
	web := &webServers{failed: make(chan error, 3), log: log.New(&webLog{log: s.log, failed: &s.acceptErrors}, "", 0)}
	web.serve(s.clients, gateway.Origins(s.cfg.Origins).Share(http.HandlerFunc(s.serveClients)), s.sockets)
	peers := http.NewServeMux()
	peers.HandleFunc("GET "+node.PeerPath, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-s.ready: // others know of us before the node is there; it comes in a moment
			s.servePeer(w, r)
		case <-r.Context().Done():
		}
	})
	web.serve(s.peers, peers, s.peerSockets)
	if s.metrics != nil {
		operators := http.NewServeMux()
		operators.Handle("GET /metrics", s.metricsHandler())
		s.health(operators)
		web.serve(s.metrics, operators, nil)
	}
	return web
}

// servePeer opens a link, unless too many are being opened: who opens one is not
// known before it has shaken hands, and its connection is not HTTP's by then.
func (s *Server) servePeer(w http.ResponseWriter, r *http.Request) {
	n := s.node.Load()
	defer s.links.Add(-1)
	if s.links.Add(1) > int64(n.PeerLinks()+maxPeerSockets) {
		s.peerSockets.over.Add(1)
		gateway.WriteError(w, nil, errLinks)
		return
	}
	n.ServePeer(w, r)
}

var errLinks = envelope.BusyError(1000, "too many links are being opened", nil)

var errStarting = envelope.BusyError(1000, "the server is starting", nil)

func (s *Server) serveClients(w http.ResponseWriter, r *http.Request) {
	if h := s.handler.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	starting := http.NewServeMux()
	starting.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { gateway.WriteError(w, nil, errStarting) })
	s.health(starting)
	starting.ServeHTTP(w, r)
}

// limitCalls refuses calls of clients that have made too many from one address.
func limitCalls(n *node.Node, next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := n.MayCall(r.Context()); err != nil {
			gateway.Refuse(w, n, log, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// health serves what a supervisor asks: whether the process lives, and
// whether it should get clients.
func (s *Server) health(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		gateway.WriteJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		why := "starting"
		if n := s.node.Load(); n != nil {
			err := n.Ready()
			if err == nil {
				gateway.WriteJSON(w, http.StatusOK, map[string]string{"status": "ready"})
				return
			}
			why = err.Error()
		}
		gateway.WriteJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "why": why})
	})
}

// Bounds of plain HTTP. A connection that becomes a WebSocket leaves them behind.
const (
	headerTimeout  = 10 * time.Second
	requestTimeout = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
)

// serve answers on a listener, whose connections bound counts; nil: nobody does.
func (w *webServers) serve(l net.Listener, h http.Handler, bound *sockets) {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: w.log,
	}
	if bound != nil {
		bound.watch(srv)
	}
	w.servers = append(w.servers, srv)
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			w.failed <- fmt.Errorf("the listener on %s failed: %w", l.Addr(), err)
		}
	}()
}

// close lets the calls under way finish, for a moment.
func (w *webServers) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, srv := range w.servers {
		if srv.Shutdown(ctx) != nil {
			_ = srv.Close()
		}
	}
}

// peerTLS returns the configuration of both ends of peer links: each shows a
// certificate of the mesh's own authority and asks for one.
func peerTLS(c *config.Config) (*tls.Config, error) {
	if c.PeerCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.PeerCert, c.PeerKey)
	if err != nil {
		return nil, fmt.Errorf("peer_cert: %w", err)
	}
	pem, err := os.ReadFile(c.PeerCA)
	if err != nil {
		return nil, fmt.Errorf("peer_ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("peer_ca: no certificate in %s", c.PeerCA)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}, nil
}
