// Package config is the configuration of a server: one table of keys, read
// from flags, environment, a YAML file and defaults, and checked as a whole.
//
// The table is the struct [Config]. The name of a field's flag is also, with
// "_" for "-", its key in the file and, in capitals behind "ALLSPARK_", its
// environment variable. For each key the flag wins over the environment, the
// environment over the file, and the file over the default.
package config

import (
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/auth"
)

// Config is everything a server can be told. Its tags, beside kong's own:
//
//	initial  the default, as text
//	secret   never shown
//	url      shown without password
//	fills    the key of the secret that the named file holds
//	file     a file that must be readable, when given
type Config struct {
	NodeID         string        `name:"node-id" group:"Server" placeholder:"ID" help:"Name of this server in the mesh, the same after a restart. Default: HOST:PORT, without brackets."`
	Host           string        `name:"host" group:"Server" initial:"127.0.0.1" help:"Address to listen on for clients. 0.0.0.0 listens on all; then node-id and url must be set, and in a mesh gossip-host or peer-url."`
	Port           int           `name:"port" group:"Server" initial:"8420" help:"Port to listen on for clients. 0 picks a free one."`
	URL            string        `name:"url" url:"" group:"Server" help:"Where clients are told to find this server. Default: http://HOST:PORT, https with tls-cert."`
	ProxyURL       string        `name:"proxy-url" url:"" group:"Server" placeholder:"URL" help:"Where clients that reach only the entry point find this server, as https://ENTRY/PATH."`
	Origins        []string      `name:"origins" group:"Server" placeholder:"PATTERN" help:"Web origins whose pages may connect and make calls, as host patterns such as *.example.com; the server's own is always allowed."`
	MaxConnections int           `name:"max-connections" group:"Server" initial:"50000" help:"Connections at most; more are refused as busy."`
	MaxFrameBytes  int           `name:"max-frame-bytes" group:"Server" initial:"1048576" help:"Largest frame a client may send."`
	DrainTimeout   time.Duration `name:"drain-timeout" group:"Server" initial:"20s" help:"Time to move clients elsewhere when stopping."`
	Presence       bool          `name:"presence" group:"Server" initial:"true" help:"Whether clients may ask who is online. On by default; --presence=false turns it off."`
	SignalRate     int           `name:"signal-rate" group:"Server" initial:"50" help:"Volatile messages a second that one device may send to one session, unless it leads it. 0: any number."`
	SignalBurst    int           `name:"signal-burst" group:"Server" initial:"100" help:"How many of them at once."`
	TLSCert        string        `name:"tls-cert" file:"" group:"Server" placeholder:"FILE" help:"Certificate chain for clients, PEM."`
	TLSKey         string        `name:"tls-key" file:"" group:"Server" placeholder:"FILE" help:"Key of tls-cert, PEM."`

	TrustedProxies     []string `name:"trusted-proxies" group:"Limits" placeholder:"NETWORK" help:"Addresses and networks of proxies, such as 10.0.0.0/8, whose X-Forwarded-For says where a client is. Without it, all clients behind a proxy have its address."`
	DeviceRate         int      `name:"device-rate" group:"Limits" initial:"5000" help:"Messages and calls a second of one device, for a moment five times as many. 0: any number; so below."`
	ClientRate         int      `name:"client-rate" group:"Limits" initial:"20000" help:"The same of one user, whatever the device."`
	SessionRate        int      `name:"session-rate" group:"Limits" initial:"20000" help:"Messages a second to one session or topic, except from the app."`
	AddressRate        int      `name:"address-rate" group:"Limits" initial:"50000" help:"The same as of a device, from one address; clients on this machine are not counted, here and below."`
	AddressSessions    int      `name:"address-sessions" group:"Limits" initial:"6000" help:"Sessions made in a minute from one address."`
	AddressGuests      int      `name:"address-guests" group:"Limits" initial:"600" help:"Guests made in a minute from one address."`
	ClientConnections  int      `name:"client-connections" group:"Limits" initial:"1000" help:"Devices of one user connected to this server at once."`
	AddressConnections int      `name:"address-connections" group:"Limits" initial:"20000" help:"Devices connected from one address to this server at once."`

	Data            string `name:"data" group:"Storage" placeholder:"DIR" help:"Directory of the embedded store, for one server. Default without mongodb-uri: ./allspark-data."`
	MongoDBURI      string `name:"mongodb-uri" url:"" group:"Storage" placeholder:"URI" help:"MongoDB to store in, shared by all servers of the mesh."`
	MongoDBURIFile  string `name:"mongodb-uri-file" fills:"mongodb_uri" group:"Storage" placeholder:"FILE" help:"File that holds mongodb-uri."`
	MongoDBDatabase string `name:"mongodb-database" group:"Storage" initial:"allspark" placeholder:"NAME" help:"Database in that MongoDB."`
	Force           bool   `name:"force" group:"Storage" help:"Take over the record of a server with this node-id at once, because it is known to have crashed. Without it a dead one is taken over after 8 seconds, and a live one never."`

	KeepDevice   string        `name:"keep-device" group:"Retention" initial:"age=720h,acknowledged=24h" placeholder:"LIMITS" help:"What is kept of a device's own messages, as age=720h,entries=10000,bytes=64MiB,acknowledged=24h; the last is for what the device has acknowledged. Empty: everything."`
	KeepUser     string        `name:"keep-user" group:"Retention" initial:"age=720h,entries=50000" placeholder:"LIMITS" help:"What is kept of a user's messages: age, entries, bytes. Empty: everything."`
	KeepSession  string        `name:"keep-session" group:"Retention" placeholder:"LIMITS" help:"What is kept of a session's history: age, entries, bytes. Empty: everything."`
	QuotaDevice  string        `name:"quota-device" group:"Retention" initial:"entries=100000,bytes=256MiB" placeholder:"LIMITS" help:"What may stand in one device's log; beyond that sending to it is refused. Empty: no bound."`
	QuotaUser    string        `name:"quota-user" group:"Retention" initial:"entries=100000,bytes=256MiB" placeholder:"LIMITS" help:"The same for one user's log."`
	QuotaSession string        `name:"quota-session" group:"Retention" placeholder:"LIMITS" help:"The same for one session's log."`
	DedupeWindow time.Duration `name:"dedupe-window" group:"Retention" initial:"168h" help:"How long after it was accepted a repeated message is recognised by its id, also when it has gone by then."`

	ClusterID       string   `name:"cluster-id" group:"Mesh" initial:"allspark" placeholder:"ID" help:"Name of the mesh; servers of another one are not spoken to."`
	Zone            string   `name:"zone" group:"Mesh" placeholder:"ID" help:"Where this server stands; clients are sent to servers of their own zone first."`
	Join            []string `name:"join" group:"Mesh" placeholder:"HOST:PORT" help:"Gossip addresses of servers of the mesh."`
	GossipHost      string   `name:"gossip-host" group:"Mesh" placeholder:"HOST" help:"Address to listen on for gossip. Default: HOST."`
	GossipPort      int      `name:"gossip-port" group:"Mesh" initial:"8421" help:"Port to listen on for gossip, TCP and UDP, with a MongoDB; without one there is nobody to gossip with. 0 picks a free one."`
	GossipAdvertise string   `name:"gossip-advertise" group:"Mesh" placeholder:"HOST:PORT" help:"Where other servers reach gossip. Default: GOSSIP-HOST:GOSSIP-PORT, or a private address of the machine."`
	PeerHost        string   `name:"peer-host" group:"Mesh" placeholder:"HOST" help:"Address to listen on for other servers. Default: GOSSIP-HOST."`
	PeerPort        int      `name:"peer-port" group:"Mesh" initial:"8422" help:"Port to listen on for other servers. 0 picks a free one."`
	PeerURL         string   `name:"peer-url" url:"" group:"Mesh" placeholder:"URL" help:"Where other servers reach this one. Default: http://PEER-HOST:PEER-PORT, https with peer-cert."`
	MeshKey         string   `name:"mesh-key" secret:"" group:"Mesh" placeholder:"SECRET" help:"Secret that all servers of the mesh share, 16 characters or more. Needed with mongodb-uri, random otherwise."`
	MeshKeyFile     string   `name:"mesh-key-file" fills:"mesh_key" group:"Mesh" placeholder:"FILE" help:"File that holds mesh-key."`
	PeerCert        string   `name:"peer-cert" file:"" group:"Mesh" placeholder:"FILE" help:"Certificate of this server towards others, PEM. With peer-key and peer-ca, links between servers use TLS on both sides."`
	PeerKey         string   `name:"peer-key" file:"" group:"Mesh" placeholder:"FILE" help:"Key of peer-cert, PEM."`
	PeerCA          string   `name:"peer-ca" file:"" group:"Mesh" placeholder:"FILE" help:"Certificates that sign those of the other servers, PEM."`

	TokenSecret     string     `name:"token-secret" secret:"" group:"Credentials" placeholder:"SECRET" help:"Secret that auth keys are signed with (HS256), 32 characters or more. Several keys, and other kinds, go under token_keys in the file."`
	TokenSecretFile string     `name:"token-secret-file" fills:"token_secret" group:"Credentials" placeholder:"FILE" help:"File that holds token-secret."`
	TokenKeys       []TokenKey `name:"token-keys" kong:"-"`
	TokenIssuers    []string   `name:"token-issuers" group:"Credentials" placeholder:"NAME" help:"Issuers (iss) of auth keys to accept. Default: any."`
	TokenAudiences  []string   `name:"token-audiences" group:"Credentials" placeholder:"NAME" help:"Audiences (aud) of auth keys to accept. Default: any."`

	TokenMaxTTL time.Duration `name:"token-max-ttl" group:"Credentials" initial:"8760h" help:"How long an auth key may last; those that last longer are refused. Revocations are kept for as long."`

	Guests    bool          `name:"guests" group:"Guests" help:"Give people without an account an identity of their own (POST /v1/guests), with which they join sessions. Ids that begin with guest- are theirs then."`
	GuestTTL  time.Duration `name:"guest-ttl" group:"Guests" initial:"24h" help:"How long such an identity lasts; with a random mesh-key no longer than this process."`
	GuestRate int           `name:"guest-rate" group:"Guests" initial:"20" help:"How many guests this server makes in a second, for a moment five times as many."`

	PushAfter        time.Duration `name:"push-after" group:"Push" initial:"5s" help:"How long a device has to acknowledge a message before it is woken by a push service. Without a service below nobody is."`
	PushInterval     time.Duration `name:"push-interval" group:"Push" initial:"2m" help:"The least time between two notifications to one device."`
	PushTitleKey     string        `name:"push-title-key" group:"Push" placeholder:"KEY" help:"Key of the app's translation of titles; its arguments are the sender, the session and how many messages are unread."`
	PushBodyKey      string        `name:"push-body-key" group:"Push" initial:"allspark_message" placeholder:"KEY" help:"The same for texts."`
	PushTitle        string        `name:"push-title" group:"Push" placeholder:"TEXT" help:"Plain title instead of a key, with {sender}, {session} and {unread}."`
	PushBody         string        `name:"push-body" group:"Push" placeholder:"TEXT" help:"The same for texts."`
	PushSound        string        `name:"push-sound" group:"Push" placeholder:"NAME" help:"Sound of a notification: default, or one of the app's."`
	PushSilent       bool          `name:"push-silent" group:"Push" help:"Wake the app and show nothing; it decides."`
	PushText         PushText      `name:"push-text" kong:"-"`
	PushCategory     string        `name:"push-category" group:"Push" placeholder:"NAME" help:"Apple: category of notifications, one of the app's."`
	PushChannel      string        `name:"push-channel" group:"Push" placeholder:"ID" help:"Android: channel of notifications, one of the app's."`
	PushMutable      bool          `name:"push-mutable" group:"Push" help:"Apple: let the app's extension change a notification before it is shown."`
	PushContent      bool          `name:"push-content" group:"Push" help:"Send small messages along with the notification, by way of the push service. Without it nothing of a message's contents leaves the mesh."`
	APNsKeyFile      string        `name:"apns-key-file" file:"" group:"Push" placeholder:"FILE" help:"Apple: the .p8 file of a signing key. With apns-key-id and apns-team-id."`
	APNsKeyID        string        `name:"apns-key-id" group:"Push" placeholder:"ID" help:"Id of that key."`
	APNsTeamID       string        `name:"apns-team-id" group:"Push" placeholder:"ID" help:"The team it belongs to."`
	APNsCert         string        `name:"apns-cert" file:"" group:"Push" placeholder:"FILE" help:"Apple: certificate and key, .p12 or PEM, instead of a signing key."`
	APNsCertPassword string        `name:"apns-cert-password" secret:"" group:"Push" placeholder:"SECRET" help:"Password of that file."`
	APNsURL          string        `name:"apns-url" url:"" group:"Push" placeholder:"URL" help:"Where Apple's service is, if not where Apple says: https://HOST[:PORT] of a relay."`
	APNsSandboxURL   string        `name:"apns-sandbox-url" url:"" group:"Push" placeholder:"URL" help:"The same of the development environment."`
	FCMCredentials   string        `name:"fcm-credentials" file:"" group:"Push" placeholder:"FILE" help:"Google: the key file of a service account that may send."`
	FCMURL           string        `name:"fcm-url" url:"" group:"Push" placeholder:"URL" help:"Where Google's service is, if not where Google says; where access tokens come from is in the key file."`
	VAPIDKeyFile     string        `name:"vapid-key-file" file:"" group:"Push" placeholder:"FILE" help:"Browsers: private key of Web Push, PEM or base64url."`
	VAPIDSubject     string        `name:"vapid-subject" group:"Push" placeholder:"URL" help:"Whom push services of browsers can ask: mailto:ADDRESS or https://PAGE."`

	HookURL        string `name:"hook-url" url:"" group:"Hooks" placeholder:"URL" help:"Where the app's backend is told of connections, sessions, receipts and messages that wait, in signed requests. More receivers go under hooks in the file."`
	HookSecret     string `name:"hook-secret" secret:"" group:"Hooks" placeholder:"SECRET" help:"Secret that these requests are signed with, 32 characters or more."`
	HookSecretFile string `name:"hook-secret-file" fills:"hook_secret" group:"Hooks" placeholder:"FILE" help:"File that holds hook-secret."`

	HookPreviousSecret     string         `name:"hook-previous-secret" secret:"" group:"Hooks" placeholder:"SECRET" help:"Secret that they are signed with as well, while the backend changes from that one to hook-secret."`
	HookPreviousSecretFile string         `name:"hook-previous-secret-file" fills:"hook_previous_secret" group:"Hooks" placeholder:"FILE" help:"File that holds hook-previous-secret."`
	Hooks                  []HookReceiver `name:"hooks" kong:"-"`

	HookTimeout time.Duration `name:"hook-timeout" group:"Hooks" initial:"10s" help:"How long one request may take."`
	HookKeep    time.Duration `name:"hook-keep" group:"Hooks" initial:"168h" help:"How long events are kept, delivered or not; at most the last 100,000 in each of 16 partitions."`

	AuthorizeURL                string        `name:"authorize-url" url:"" group:"Authorization" placeholder:"URL" help:"Where the app's backend is asked whether somebody may connect, join or send, in signed requests. Empty: nobody is asked."`
	AuthorizeSecret             string        `name:"authorize-secret" secret:"" group:"Authorization" placeholder:"SECRET" help:"Secret that these requests are signed with, 32 characters or more."`
	AuthorizeSecretFile         string        `name:"authorize-secret-file" fills:"authorize_secret" group:"Authorization" placeholder:"FILE" help:"File that holds authorize-secret."`
	AuthorizePreviousSecret     string        `name:"authorize-previous-secret" secret:"" group:"Authorization" placeholder:"SECRET" help:"Secret that they are signed with as well, while the backend changes from that one to authorize-secret."`
	AuthorizePreviousSecretFile string        `name:"authorize-previous-secret-file" fills:"authorize_previous_secret" group:"Authorization" placeholder:"FILE" help:"File that holds authorize-previous-secret."`
	AuthorizeFor                []string      `name:"authorize-for" group:"Authorization" initial:"connect,join" placeholder:"ACTION" help:"What is asked about: connect, join, send."`
	AuthorizeTimeout            time.Duration `name:"authorize-timeout" group:"Authorization" initial:"3s" help:"How long somebody may have to wait for the answer."`
	AuthorizeFailure            string        `name:"authorize-failure" group:"Authorization" initial:"deny" placeholder:"deny|allow" help:"What is done without an answer: deny, for now, or allow."`
	AuthorizeCache              time.Duration `name:"authorize-cache" group:"Authorization" initial:"30s" help:"How long an answer holds for the same question, unless it says less. 0s: not at all."`

	MetricsAddr string `name:"metrics-addr" group:"Operation" initial:"127.0.0.1:8423" placeholder:"HOST:PORT" help:"Where to serve metrics, apart from clients. Empty: nowhere."`
	LogLevel    string `name:"log-level" group:"Operation" initial:"info" placeholder:"LEVEL" help:"Least level to log: debug, info, warn or error."`
	LogFormat   string `name:"log-format" group:"Operation" initial:"text" placeholder:"FORMAT" help:"Form of the log: text or json."`
}

// TokenKey is one key that auth keys are checked with. Exactly one of its
// sources is given; Secret is filled from SecretFile.
type TokenKey struct {
	KID        string `name:"kid"`    // of auth keys signed with it; "" for those without, and for a JWKS, which has its own
	Issuer     string `name:"issuer"` // whose auth keys it is for; "": anybody's
	Secret     string `name:"secret" secret:""`
	SecretFile string `name:"secret-file" fills:"secret"`
	PEMFile    string `name:"pem-file" file:""`
	JWKSFile   string `name:"jwks-file" file:""`
	JWKSURL    string `name:"jwks-url" url:""`
}

// Addr returns the address to listen on for clients.
func (c *Config) Addr() string { return hostPort(c.Host, c.Port) }

// IDOf returns the name of a server that listens on an address: brackets, as of
// IPv6, are not for ids.
func IDOf(addr string) string { return strings.NewReplacer("[", "", "]", "").Replace(addr) }

// GossipAddr returns the address to listen on for gossip.
func (c *Config) GossipAddr() string { return hostPort(c.GossipHost, c.GossipPort) }

// PeerAddr returns the address to listen on for other servers.
func (c *Config) PeerAddr() string { return hostPort(c.PeerHost, c.PeerPort) }

// Meshed reports whether other servers are to be expected.
func (c *Config) Meshed() bool { return c.MongoDBURI != "" }

// Level returns LogLevel for slog.
func (c *Config) Level() slog.Level {
	var l slog.Level
	// A level that did not pass the check means info.
	_ = l.UnmarshalText([]byte(c.LogLevel))
	return l
}

// KeySources returns all keys that auth keys are checked with: TokenSecret, for
// those without a kid, and TokenKeys.
func (c *Config) KeySources() []auth.KeySource {
	var sources []auth.KeySource
	if c.TokenSecret != "" {
		sources = append(sources, auth.KeySource{Secret: auth.Secret(c.TokenSecret)})
	}
	for _, k := range c.TokenKeys {
		sources = append(sources, auth.KeySource{
			ID: k.KID, Issuer: k.Issuer, Secret: auth.Secret(k.Secret), PEMFile: k.PEMFile, JWKSFile: k.JWKSFile, JWKSURL: k.JWKSURL,
		})
	}
	return sources
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// PublicAddr returns the host and port of URL: the address that only one
// server has.
func (c *Config) PublicAddr() string {
	u, err := url.Parse(c.URL)
	if err != nil {
		return c.Addr()
	}
	if u.Port() != "" {
		return u.Host
	}
	if u.Scheme == "https" {
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return net.JoinHostPort(u.Hostname(), "80")
}
