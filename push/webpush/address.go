package webpush

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// ErrAddress means that an endpoint is at an address or port that is not
// allowed. The token is kept: a name may be resolved wrongly for a while.
var ErrAddress = errors.New("webpush: address not allowed")

// newTransport returns a transport that looks at each address it is about to
// connect to, after names have been resolved: a name that was harmless when it
// was registered may be none now.
func newTransport(c Config) *http.Transport {
	dialer := &net.Dialer{
		Timeout: 10 * time.Second,
		Control: func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil || !allowed(at, c) {
				return ErrAddress
			}
			return nil
		},
	}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 32 << 10,
	}
}

func allowed(at netip.AddrPort, c Config) bool {
	addr := at.Addr().Unmap()
	if c.Loopback && addr.IsLoopback() {
		return true
	}
	return isPublic(addr) && slices.Contains(c.Ports, at.Port())
}

// isPublic reports whether an address is reachable from everywhere, by the
// registries of special addresses (RFC 6890 and what IANA has added).
func isPublic(addr netip.Addr) bool {
	if addr.Zone() != "" || !addr.IsGlobalUnicast() || addr.IsPrivate() {
		return false
	}
	if addr.Is6() && !netip.MustParsePrefix("2000::/3").Contains(addr) {
		return false // not allocated, or translated to IPv4 (64:ff9b::/96)
	}
	for _, special := range [...]string{
		"0.0.0.0/8",       // this network
		"100.64.0.0/10",   // carriers' own
		"192.0.0.0/24",    // protocol assignments
		"192.0.2.0/24",    // documentation
		"192.88.99.0/24",  // 6to4 relays
		"198.18.0.0/15",   // benchmarks
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"240.0.0.0/4",     // reserved
		"2001::/23",       // protocol assignments, among them Teredo
		"2001:db8::/32",   // documentation
		"2002::/16",       // 6to4: leads to an IPv4 address
		"3fff::/20",       // documentation
	} {
		if netip.MustParsePrefix(special).Contains(addr) {
			return false
		}
	}
	return true
}
