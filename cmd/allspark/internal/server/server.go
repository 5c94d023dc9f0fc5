// Package server puts a node together from its configuration: the listeners,
// the store, the node and the gateways, and takes them apart again in order.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/gateway/native"
	"github.com/allsparkrt/allspark/gateway/rest"
	"github.com/allsparkrt/allspark/gateway/stream"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/internal/loop"
	"github.com/allsparkrt/allspark/node"
	"github.com/allsparkrt/allspark/push"
	"github.com/allsparkrt/allspark/session"
	"github.com/allsparkrt/allspark/store/embedded"
	"github.com/allsparkrt/allspark/store/mongo"
)

// Store is everything a node keeps.
type Store interface {
	inbox.Store
	graph.Store
	session.Store
	push.Store
	auth.RevocationStore
	Close() error
}

// Server is one server process, or one of several in a process. Make it with
// [Listen], then call Run once.
type Server struct {
	cfg   config.Config
	log   *slog.Logger
	store Store // given by the caller, who closes it; nil: opened from cfg

	clients, peers, metrics net.Listener // metrics may be nil
	peerTLS                 *tls.Config
	handler                 atomic.Pointer[http.Handler] // for clients; nil until the node is up
	node                    atomic.Pointer[node.Node]
	database                atomic.Pointer[mongo.Store]    // for its metrics; nil with another kind of store
	disk                    atomic.Pointer[embedded.Store] // the same
	ready                   chan struct{}

	proxies              gateway.Proxies
	sockets, peerSockets *sockets
	links                atomic.Int64  // that others have dialled, those being opened included
	acceptErrors         atomic.Uint64 // connections that could not be accepted
}

// Listen opens the server's ports, so that what cannot be had is known before
// anything else is touched. A store that is given is used and not closed.
func Listen(cfg config.Config, log *slog.Logger, store Store) (_ *Server, err error) {
	proxies, err := gateway.ParseProxies(cfg.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("trusted_proxies: %w", err)
	}
	s := &Server{
		cfg: cfg, log: log, store: store, proxies: proxies, ready: make(chan struct{}),
		sockets: newSockets(maxSockets, cfg.AddressConnections, proxies), peerSockets: newSockets(maxPeerSockets, maxPeerSockets, nil),
	}
	defer func() {
		if err != nil {
			s.closeListeners()
		}
	}()
	if s.peerTLS, err = peerTLS(&cfg); err != nil {
		return nil, err
	}
	if s.clients, err = listen("port", cfg.Addr()); err != nil {
		return nil, err
	}
	if s.peers, err = listen("peer_port", cfg.PeerAddr()); err != nil {
		return nil, err
	}
	if cfg.MetricsAddr != "" {
		if s.metrics, err = listen("metrics_addr", cfg.MetricsAddr); err != nil {
			return nil, err
		}
	}
	c := &s.cfg
	setDefault(&c.NodeID, config.IDOf(s.clients.Addr().String()))
	setDefault(&c.URL, schemeOf(c.TLSCert)+s.clients.Addr().String())
	setDefault(&c.PeerURL, schemeOf(c.PeerCert)+s.peers.Addr().String())
	if c.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("tls_cert: %w", err)
		}
		s.clients = tls.NewListener(s.clients, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	}
	if s.peerTLS != nil {
		s.peers = tls.NewListener(s.peers, s.peerTLS)
	}
	return s, nil
}

func listen(key, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot listen on %s: %w", key, addr, err)
	}
	return l, nil
}

func setDefault(value *string, to string) {
	if *value == "" {
		*value = to
	}
}

func schemeOf(cert string) string {
	if cert != "" {
		return "https://"
	}
	return "http://"
}

func (s *Server) closeListeners() {
	for _, l := range []net.Listener{s.clients, s.peers, s.metrics} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// Ready is closed when the server takes clients.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// URL is where clients find the server.
func (s *Server) URL() string { return s.cfg.URL }

// Node returns the node, once [Server.Ready].
func (s *Server) Node() *node.Node { return s.node.Load() }

// Run serves until ctx ends, and then drains. The error says why it could not
// start or had to stop.
//
// The order of the end: drain (clients move elsewhere while everything still
// works), the node, the HTTP servers, the store.
func (s *Server) Run(ctx context.Context) error {
	hard, abort := context.WithCancel(context.WithoutCancel(ctx)) // ends connections at once
	defer abort()
	web := s.serveHTTP()
	defer web.close()

	guests, err := s.guests()
	if err != nil {
		return err
	}
	tickets, err := auth.NewTickets([]byte(s.cfg.MeshKey), nil)
	if err != nil {
		return err
	}
	services, err := newPushServices(&s.cfg)
	if err != nil {
		return err
	}
	defer services.Close()
	store, err := s.openStore(ctx)
	if err != nil {
		return err
	}
	if s.store == nil {
		defer func() {
			if err := store.Close(); err != nil {
				s.log.Error("the store did not close well", "err", err)
			}
		}()
		defer web.close() // before that: calls under way use the store
	}
	switch store := store.(type) {
	case *mongo.Store:
		s.database.Store(store)
	case *embedded.Store:
		s.disk.Store(store)
	}
	revocations := auth.NewRevocations(store, s.cfg.TokenMaxTTL, nil)
	verifier, err := auth.NewVerifier(ctx, auth.Config{
		Keys: s.cfg.KeySources(), Issuers: s.cfg.TokenIssuers, Audiences: s.cfg.TokenAudiences, Guests: guests,
		Revocations: revocations, MaxLifetime: s.cfg.TokenMaxTTL, Logger: s.log,
	})
	if err != nil {
		return err
	}
	defer verifier.Close()
	n, err := s.startNode(ctx, store, revocations, services)
	if err != nil {
		return err
	}

	loops, err := loop.New(loop.Config{Begin: n.Hold, End: n.Release})
	if err != nil && !errors.Is(err, loop.ErrUnsupported) {
		return err
	}
	defer loops.Close()

	mux := http.NewServeMux()
	mux.HandleFunc("/", gateway.Unmatched(mux, n, s.log))
	(&rest.Handler{
		Core: n, Verifier: verifier, Tickets: tickets, Guests: guests, PushKey: services.key, MayMakeGuest: n.MayMakeGuest, MaxFrame: s.cfg.MaxFrameBytes, Log: s.log,
	}).Register(mux)
	(&native.Handler{
		Core: n, Verifier: verifier, Tickets: tickets, Origins: s.cfg.Origins, MaxFrame: s.cfg.MaxFrameBytes, Log: s.log, Loops: loops, Context: hard,
	}).Register(mux)
	(&stream.Handler{
		Core: n, Verifier: verifier, Tickets: tickets, Codec: func() gateway.Codec { return native.NewCodec(false) }, Log: s.log, Context: hard, Entered: s.sockets.lend,
	}).Register(mux)
	limited := http.NewServeMux()
	limited.Handle("/", s.proxies.Locate(limitCalls(n, mux, s.log)))
	s.health(limited)
	var handler http.Handler = limited
	s.node.Store(n)
	s.handler.Store(&handler)

	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(running) }()
	close(s.ready)
	s.log.Info("serving", "node_id", s.cfg.NodeID, "url", s.cfg.URL)

	select {
	case err := <-ended: // by itself: another process is us now
		return err
	case err := <-web.failed:
		stop()
		<-ended
		return err
	case <-n.DrainAsked():
	case <-ctx.Done():
	}
	s.log.Info("draining", "connections", n.Connections(), "at_most", s.cfg.DrainTimeout)
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	n.Drain(draining)
	stop()
	err = <-ended
	s.log.Info("stopped")
	return err
}

// guests returns who makes and knows guests; nil when there are none.
func (s *Server) guests() (*auth.Guests, error) {
	if !s.cfg.Guests {
		return nil, nil
	}
	return auth.NewGuests([]byte(s.cfg.MeshKey), s.cfg.GuestTTL, s.cfg.GuestRate, nil)
}

// startNode claims the server's place in the mesh. While the store is away it
// tries again; a place that is taken is an error.
func (s *Server) startNode(ctx context.Context, store Store, revocations *auth.Revocations, services *pushServices) (*node.Node, error) {
	sole := s.store == nil && !s.cfg.Meshed()
	var gossip graph.GossipConfig
	if !sole {
		var err error
		if gossip, err = gossipConfig(&s.cfg); err != nil {
			return nil, err
		}
	}
	for pause := startRetry; ; pause = min(2*pause, startRetryMax) {
		n, err := node.New(ctx, node.Config{
			Graph: graph.Config{
				Self: graph.Record{
					ID: envelope.ServerID(s.cfg.NodeID), Addr: s.cfg.PublicAddr(), URL: s.cfg.URL, ProxyURL: s.cfg.ProxyURL,
					PeerURL: "ws" + strings.TrimPrefix(s.cfg.PeerURL, "http"), Zone: s.cfg.Zone,
				},
				// A directory has one process at a time: its lock shows that
				// whoever wrote a record there is gone.
				Store: store, Gossip: gossip, Force: s.cfg.Force || !s.cfg.Meshed(), Sole: sole, Logger: s.log,
			},
			Push:      services.config(&s.cfg, store),
			Signals:   node.SignalLimit{PerSecond: s.cfg.SignalRate, Burst: s.cfg.SignalBurst},
			Retention: s.cfg.Retention(), PresenceOff: !s.cfg.Presence, Guests: s.cfg.Guests, Revocations: revocations,
			Hooks: node.Hooks{Receivers: s.cfg.HookReceivers(), Timeout: s.cfg.HookTimeout},
			Limits: node.Limits{
				Device: s.cfg.DeviceRate, Client: s.cfg.ClientRate, Session: s.cfg.SessionRate, Address: s.cfg.AddressRate, Sessions: s.cfg.AddressSessions, Guests: s.cfg.AddressGuests,
				ClientConnections: s.cfg.ClientConnections, AddressConnections: s.cfg.AddressConnections,
			},
			Authorize: s.authorize(), Inbox: store, Sessions: store, MeshKey: []byte(s.cfg.MeshKey), Log: s.log,
			SharedStore: s.cfg.Meshed(), MaxConnections: s.cfg.MaxConnections, PeerTLS: s.peerTLS,
		})
		if errors.Is(err, graph.ErrListen) {
			err = fmt.Errorf("gossip_port: %w", err)
		}
		if err == nil || envelope.CodeOf(err) != envelope.Busy {
			return n, err
		}
		s.log.Warn("cannot enter the mesh yet; trying again", "err", err, "in", pause)
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// gossipConfig resolves names: gossip speaks in addresses.
func gossipConfig(c *config.Config) (graph.GossipConfig, error) {
	g := graph.GossipConfig{Join: c.Join, Key: []byte(c.MeshKey), Label: c.ClusterID, BindPort: c.GossipPort}
	ip, err := resolve(c.GossipHost)
	if err != nil {
		return g, fmt.Errorf("gossip_host: %w", err)
	}
	g.BindAddr, g.Local = ip.String(), ip.IsLoopback()
	if c.GossipAdvertise != "" {
		host, port, err := net.SplitHostPort(c.GossipAdvertise)
		if err != nil {
			return g, fmt.Errorf("gossip_advertise: %w", err)
		}
		if ip, err = resolve(host); err != nil {
			return g, fmt.Errorf("gossip_advertise: %w", err)
		}
		g.AdvertiseAddr = ip.String()
		if g.AdvertisePort, err = strconv.Atoi(port); err != nil {
			return g, fmt.Errorf("gossip_advertise: %w", err)
		}
	}
	return g, nil
}

func resolve(host string) (net.IP, error) {
	if host == "" {
		host = "0.0.0.0"
	}
	addr, err := net.ResolveIPAddr("ip", host)
	if err != nil {
		return nil, err
	}
	return addr.IP, nil
}

// Pauses between attempts to start on a store that is away.
const (
	startRetry    = 500 * time.Millisecond
	startRetryMax = 10 * time.Second
)

// sleep returns early, with the reason, when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return errors.Join(errors.New("stopped before it could start"), context.Cause(ctx))
	}
}
