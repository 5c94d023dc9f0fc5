package config

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

const (
	// minSecret is the least length of an HS256 secret (RFC 7518, section 3.2).
	minSecret = 32
	// minMeshKey is the least length of a mesh key.
	minMeshKey = 16
	// maxTokenTTL is the longest that an auth key may be allowed to last.
	maxTokenTTL = 10 * 365 * 24 * time.Hour
	// maxGuestTTL is the longest life of a guest.
	maxGuestTTL = 90 * 24 * time.Hour
)

// check notes every problem of the values and of how they go together.
func (l *Loaded) check() {
	l.checkClients()
	l.checkStorage()
	l.checkRetention()
	l.checkMesh()
	l.checkCredentials()
	l.checkHooks()
	l.checkAuthorize()
	l.checkPush()
	l.checkOperation()
	l.checkFiles("", table(&l.Config))
}

func (l *Loaded) checkClients() {
	c := &l.Config
	l.between("port", c.Port, 0, 65535)
	if !isHost(c.Host) {
		l.problem("host", "%q is neither an address nor a host name", c.Host)
	}
	if unspecified(c.Host) {
		if c.NodeID == "" {
			l.problem("node_id", "needed when host is %q, which names no server", c.Host)
		}
		if c.URL == "" {
			l.problem("url", "needed when host is %q, which clients cannot reach", c.Host)
		}
	}
	if c.NodeID != "" {
		l.id("node_id", c.NodeID)
	}
	if c.URL != "" {
		l.webURL("url", c.URL)
	}
	if c.ProxyURL != "" {
		l.webURL("proxy_url", c.ProxyURL)
	}
	for _, origin := range c.Origins {
		if _, err := path.Match(origin, ""); err != nil {
			l.problem("origins", "%q is not a pattern", origin)
		}
	}
	l.between("max_connections", c.MaxConnections, 1, 10_000_000)
	l.between("max_frame_bytes", c.MaxFrameBytes, 1<<10, 64<<20)
	l.between("signal_rate", c.SignalRate, 0, 1_000_000)
	if _, err := gateway.ParseProxies(c.TrustedProxies); err != nil {
		l.problem("trusted_proxies", "%v", err)
	}
	l.between("device_rate", c.DeviceRate, 0, 10_000_000)
	l.between("client_rate", c.ClientRate, 0, 10_000_000)
	l.between("session_rate", c.SessionRate, 0, 10_000_000)
	l.between("address_rate", c.AddressRate, 0, 10_000_000)
	l.between("address_sessions", c.AddressSessions, 0, 10_000_000)
	l.between("address_guests", c.AddressGuests, 0, 10_000_000)
	l.between("client_connections", c.ClientConnections, 0, 10_000_000)
	l.between("address_connections", c.AddressConnections, 0, 10_000_000)
	l.between("signal_burst", c.SignalBurst, 1, 1_000_000)
	if c.DrainTimeout < 0 || c.DrainTimeout > time.Hour {
		l.problem("drain_timeout", "must be from 0s to 1h")
	}
	l.together("tls_cert", c.TLSCert, "tls_key", c.TLSKey)
}

func (l *Loaded) checkStorage() {
	c := &l.Config
	if c.MongoDBURI == "" { // data is given or has its default
		if len(c.Join) > 0 && c.MongoDBURIFile == "" { // else reported with the file
			l.problem("join", "servers of one mesh share a store: needs mongodb_uri")
		}
		return
	}
	if c.Data != "" {
		l.problem("data", "either data or mongodb_uri, not both")
	}
	_, hosts, ok := strings.Cut(c.MongoDBURI, "://")
	if hosts == "" || !ok || !strings.HasPrefix(c.MongoDBURI, "mongodb://") && !strings.HasPrefix(c.MongoDBURI, "mongodb+srv://") {
		l.problem("mongodb_uri", "must be of the form mongodb://HOST or mongodb+srv://HOST")
	}
	if c.MongoDBDatabase == "" || len(c.MongoDBDatabase) > 63 || strings.ContainsAny(c.MongoDBDatabase, "/\\. \"$*<>:|?") {
		l.problem("mongodb_database", "%q is not the name of a database", c.MongoDBDatabase)
	}
}

func (l *Loaded) checkMesh() {
	c := &l.Config
	l.id("cluster_id", c.ClusterID)
	if c.Zone != "" {
		l.id("zone", c.Zone)
	}
	for _, addr := range c.Join {
		l.hostPort("join", addr)
	}
	if !isHost(c.GossipHost) && c.GossipHost != c.Host { // else it has been reported
		l.problem("gossip_host", "%q is neither an address nor a host name", c.GossipHost)
	}
	if !isHost(c.PeerHost) && c.PeerHost != c.GossipHost {
		l.problem("peer_host", "%q is neither an address nor a host name", c.PeerHost)
	}
	l.between("gossip_port", c.GossipPort, 0, 65535)
	l.between("peer_port", c.PeerPort, 0, 65535)
	if c.GossipAdvertise != "" {
		l.hostPort("gossip_advertise", c.GossipAdvertise)
	}
	if c.PeerURL != "" {
		l.webURL("peer_url", c.PeerURL)
	} else if c.Meshed() && unspecified(c.PeerHost) {
		l.problem("peer_url", "needed when peer_host is %q, which other servers cannot reach", c.PeerHost)
	}
	switch {
	case c.MeshKeyFile != "" && c.MeshKey == "": // reported with the file
	case c.MeshKey == "":
		l.problem("mesh_key", "needed with mongodb_uri: a secret that all servers of the mesh share")
	case len(c.MeshKey) < minMeshKey:
		l.problem("mesh_key", "must have %d characters or more", minMeshKey)
	}
	l.together("peer_cert", c.PeerCert, "peer_key", c.PeerKey, "peer_ca", c.PeerCA)
}

func (l *Loaded) checkCredentials() {
	c := &l.Config
	if c.TokenSecret != "" && len(c.TokenSecret) < minSecret {
		l.problem("token_secret", "must have %d characters or more", minSecret)
	}
	if c.TokenSecret == "" && c.TokenSecretFile == "" && len(c.TokenKeys) == 0 {
		l.problem("token_keys", "no key to check auth keys with: set token_secret or token_keys")
	}
	for i, k := range c.TokenKeys {
		l.checkTokenKey(fmt.Sprintf("token_keys[%d]", i), k)
	}
	if c.TokenMaxTTL < time.Minute || c.TokenMaxTTL > maxTokenTTL {
		l.problem("token_max_ttl", "must be from %v to %v", time.Minute, maxTokenTTL)
	}
	if c.Guests && c.GuestTTL > c.TokenMaxTTL {
		l.problem("guest_ttl", "must not be longer than token_max_ttl: revocations are kept for that long")
	}
	if c.GuestTTL < time.Minute || c.GuestTTL > maxGuestTTL {
		l.problem("guest_ttl", "must be from %v to %v", time.Minute, maxGuestTTL)
	}
	l.between("guest_rate", c.GuestRate, 1, 100_000)
}

func (l *Loaded) checkTokenKey(prefix string, k TokenKey) {
	sources := 0
	for _, s := range []string{k.Secret, k.PEMFile, k.JWKSFile, k.JWKSURL} {
		if s != "" {
			sources++
		}
	}
	if k.SecretFile != "" && k.Secret == "" {
		sources++ // it could not be read, which is reported already
	}
	if sources != 1 {
		l.problem(prefix, "give exactly one of secret, secret_file, pem_file, jwks_file and jwks_url")
	}
	if k.Secret != "" && len(k.Secret) < minSecret {
		l.problem(prefix+".secret", "must have %d characters or more", minSecret)
	}
	if k.JWKSURL != "" {
		l.webURL(prefix+".jwks_url", k.JWKSURL)
	}
	if k.KID != "" {
		l.id(prefix+".kid", k.KID)
		if k.JWKSFile != "" || k.JWKSURL != "" {
			l.problem(prefix+".kid", "the keys of a JWKS have ids of their own")
		}
	}
}

func (l *Loaded) checkOperation() {
	c := &l.Config
	if c.MetricsAddr != "" {
		l.hostPort("metrics_addr", c.MetricsAddr)
	}
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		l.problem("log_level", "%q is none of debug, info, warn and error", c.LogLevel)
	}
	switch c.LogFormat {
	case "text", "json":
	default:
		l.problem("log_format", "%q is neither text nor json", c.LogFormat)
	}
}

// checkFiles notes the files that cannot be read, now rather than at their first use.
func (l *Loaded) checkFiles(prefix string, rows []setting) {
	for _, s := range rows {
		if s.isTable() {
			for i := range s.value.Len() {
				l.checkFiles(fmt.Sprintf("%s[%d].", s.key, i), s.item(i))
			}
		}
		if !s.has("file") || s.value.String() == "" {
			continue
		}
		if _, err := os.ReadFile(s.value.String()); err != nil {
			l.problem(prefix+s.key, "%v", err)
		}
	}
}

func (l *Loaded) between(key string, n, lo, hi int) {
	if n < lo || n > hi {
		l.problem(key, "must be from %d to %d, not %d", lo, hi, n)
	}
}

func (l *Loaded) id(key, id string) {
	if !envelope.ValidID(id) {
		l.problem(key, "%q is not an id: 1 to %d characters of A-Z a-z 0-9 _ . : @ -", id, envelope.MaxIDLen)
	}
}

func (l *Loaded) hostPort(key, addr string) {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		l.problem(key, "%q is not of the form HOST:PORT", addr)
	}
}

func (l *Loaded) webURL(key, text string) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		l.problem(key, "must be a URL of the form https://HOST[:PORT]")
	}
}

// together notes a problem unless all of the values are given, or none; it
// takes keys and values in turn.
func (l *Loaded) together(keysAndValues ...string) {
	var keys, missing []string
	for i := 0; i < len(keysAndValues); i += 2 {
		keys = append(keys, keysAndValues[i])
		if keysAndValues[i+1] == "" {
			missing = append(missing, keysAndValues[i])
		}
	}
	if len(missing) > 0 && len(missing) < len(keys) {
		l.problem(missing[0], "needed: %s go together", strings.Join(keys, ", "))
	}
}

// unspecified reports whether host means all addresses of the machine.
// isHost reports whether something can be listened on under that name. ""
// stands for all addresses.
func isHost(host string) bool {
	return !strings.ContainsAny(host, " /%?#@[]") && (!strings.Contains(host, ":") || net.ParseIP(host) != nil)
}

func unspecified(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
