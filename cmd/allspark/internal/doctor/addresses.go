package doctor

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
)

// Address is where somebody is told to find the server, where it looks for others, or
// where it only listens: then Key is ListenKey, and Told is Listen.
type Address struct {
	Key       string // of the configuration: where it is told
	ListenKey string // where it listens
	Listen    string // HOST:PORT; "" for another server's
	Told      string // HOST:PORT

	ListenErr string // why it cannot listen there
	Running   bool   // somebody listens there already: the server, most probably
	DialErr   string // why nobody answers where it is told
	Arrived   bool   // what was sent to Told came to Listen
}

// told returns the addresses of a configuration; those without a port yet are left out.
func told(c *config.Config) (all []Address) {
	add := func(key, listenKey, listen, told string) {
		if told != "" && portOf(told) != 0 && portOf(listen) != 0 {
			all = append(all, Address{Key: key, ListenKey: listenKey, Listen: listen, Told: told})
		}
	}
	if c.URL != "" {
		add("url", "port", c.Addr(), c.PublicAddr())
	}
	if c.Meshed() {
		add("peer_url", "peer_port", c.PeerAddr(), hostOf(c.PeerURL))
		add("gossip_advertise", "gossip_port", c.GossipAddr(), c.GossipAdvertise)
		for _, other := range c.Join {
			all = append(all, Address{Key: "join", Told: other})
		}
	} else {
		// It is listened on all the same.
		add("peer_port", "peer_port", c.PeerAddr(), c.PeerAddr())
	}
	add("metrics_addr", "metrics_addr", c.MetricsAddr, c.MetricsAddr)
	return all
}

// listening returns the ports that the server listens on.
func listening(c *config.Config) []int64 {
	ports := []int64{int64(c.Port)}
	if c.Meshed() {
		ports = append(ports, int64(c.GossipPort))
	}
	return append(ports, int64(c.PeerPort), portOf(c.MetricsAddr))
}

// portOf returns the port of HOST:PORT, or 0.
func portOf(address string) int64 {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return 0
	}
	return n
}

// hostOf returns the host and port of a URL.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// dialTimeout bounds the look at one address.
const dialTimeout = 2 * time.Second

func readAddresses(ctx context.Context, c *config.Config) []Address {
	all := told(c)
	for i := range all {
		all[i].try(ctx)
	}
	return all
}

// try listens as the server would, and sends itself something by way of the
// address that others are told. What a firewall keeps from other machines
// cannot be seen from here.
func (a *Address) try(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	secret := rand.Text()
	var arrived <-chan struct{}
	if a.Listen != "" {
		listener, err := net.Listen("tcp", a.Listen)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			a.Running = true
		case err != nil:
			a.ListenErr = err.Error()
			return
		default:
			defer func() { _ = listener.Close() }()
			arrived = awaitSecret(listener, secret)
		}
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", a.Told)
	if err != nil {
		a.DialErr = err.Error()
		return
	}
	defer func() { _ = conn.Close() }()
	if arrived == nil {
		return
	}
	// HTTP, so that a proxy passes it on.
	if _, err := fmt.Fprintf(conn, "GET /healthz?doctor=%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", secret, a.Told); err != nil {
		return
	}
	select {
	case <-arrived:
		a.Arrived = true
	case <-ctx.Done():
	}
}

// awaitSecret takes connections until the listener is closed, and closes the
// channel when one has sent a line with the secret.
func awaitSecret(listener net.Listener, secret string) <-chan struct{} {
	arrived := make(chan struct{})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(dialTimeout / 2))
			line, _ := bufio.NewReaderSize(conn, 4<<10).ReadString('\n')
			_ = conn.Close()
			if strings.Contains(line, secret) {
				close(arrived)
				return
			}
		}
	}()
	return arrived
}

func checkAddresses(f *Facts) (found []Finding) {
	for _, a := range f.Addresses {
		check := a.Key
		host, _, _ := net.SplitHostPort(a.Told)
		ip := net.ParseIP(host)
		switch {
		case a.Listen == "" && a.DialErr != "":
			found = append(found, Finding{
				check, Advice, a.DialErr, "Until servers find each other, what is said at one reaches the clients of the other late, or never when it is volatile. It is tried again and again.",
				fmt.Sprintf("start that server, or let port %d, TCP and UDP, through its firewall", portOf(a.Told)),
			})
		case a.Listen == "":
			found = append(found, fine(check, "%s answers", a.Told)...)
		case a.ListenErr != "":
			found = append(found, Finding{check, Problem, a.ListenErr, "The server does not start.", elsewhere(a.ListenKey)})
		case a.DialErr != "":
			found = append(found, Finding{
				check, Advice, a.DialErr, "It is what others are told, and from here it leads nowhere. In some networks that is so from the inside only.",
				fmt.Sprintf("--%s, or let port %d through the firewall", strings.ReplaceAll(a.Key, "_", "-"), portOf(a.Told)),
			})
		case f.Config.Meshed() && a.Key != a.ListenKey && (host == "localhost" || ip != nil && ip.IsLoopback()):
			found = append(found, Finding{
				check, Advice, a.Told + " is this machine for whoever asks", "Other machines look for the server at themselves.",
				"--host and --url, --gossip-host, --peer-url with a name that all know; unless all run on this machine",
			})
		case a.Running:
			found = append(found, fine(check, "%s answers; %s is in use: by the server, if it runs; else it will not start", a.Told, a.Listen)...)
		case !a.Arrived:
			found = append(found, Finding{
				check, Advice, a.Told + " answers, but not from this server's port", "Another program, or another machine, has that address; behind something that ends TLS it is no matter.",
				"--" + strings.ReplaceAll(a.Key, "_", "-"),
			})
		default:
			found = append(found, fine(check, "%s leads to %s", a.Told, a.Listen)...)
		}
	}
	return found
}

// elsewhere returns the flags by which a server listens elsewhere.
func elsewhere(key string) string {
	flag := "--" + strings.ReplaceAll(key, "_", "-")
	if host, ok := strings.CutSuffix(flag, "port"); ok {
		return host + "host or " + flag
	}
	return flag
}
