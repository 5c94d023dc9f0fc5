package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

const (
	secret32 = "0123456789abcdef0123456789abcdef"
	secret16 = "0123456789abcdef"
)

// load reads a configuration from a file's text and flags, without environment.
func load(t *testing.T, file string, args ...string) (*Loaded, error) {
	t.Helper()
	var f Flags
	parser, err := kong.New(&f, f.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	if file != "" {
		path := filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	if _, err := parser.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f.Load(func(string) (string, bool) { return "", false })
}

// TestProblems checks that each wrong value is the one problem reported.
func TestProblems(t *testing.T) {
	const mongo = "--mongodb-uri=mongodb://localhost"
	meshed := []string{mongo, "--mesh-key=" + secret16}
	tests := []struct {
		name string
		args []string
		want string // KEY: TEXT; "" means none
	}{
		{"defaults", nil, ""},
		{"any port", []string{"--port=0", "--gossip-port=0", "--peer-port=0"}, ""},
		{"port", []string{"--port=-1", "--node-id=a", "--url=http://a"}, "port: must be from 0 to 65535"},
		{"gossip port", []string{"--gossip-port=65536", "--gossip-advertise=a:1"}, "gossip_port: must be"},
		{"peer port", []string{"--peer-port=65536", "--peer-url=http://a"}, "peer_port: must be"},
		{"node id", []string{"--node-id=a b"}, `node_id: "a b" is not an id`},
		{"host", []string{"--host=a b"}, `host: "a b" is neither`},
		{"zone", []string{"--zone=a/b"}, `zone: "a/b" is not an id`},
		{"cluster id", []string{"--cluster-id="}, `cluster_id: "" is not an id`},
		{"all addresses", []string{"--host=::", "--url=http://a"}, `node_id: needed when host is "::"`},
		{"all addresses, told", []string{"--host=0.0.0.0", "--url=http://a", "--node-id=a"}, ""},
		{"no such URL", []string{"--url=example.com:80"}, "url: must be a URL"},
		{"proxy path", []string{"--proxy-url=/node/a"}, "proxy_url: must be a URL"},
		{"proxy URL", []string{"--proxy-url=ftp://a"}, "proxy_url: must be a URL"},
		{"origins", []string{"--origins=*.example.com,[a"}, `origins: "[a" is not a pattern`},
		{"connections", []string{"--max-connections=0"}, "max_connections: must be from 1"},
		{"frame", []string{"--max-frame-bytes=1"}, "max_frame_bytes: must be from 1024"},
		{"drain", []string{"--drain-timeout=-1s"}, "drain_timeout: must be from"},
		{"cert alone", []string{"--tls-cert=config_test.go"}, "tls_key: needed"},
		{"cert not there", []string{"--tls-cert=absent", "--tls-key=config_test.go"}, "tls_cert: open absent"},
		{"peer cert alone", []string{"--peer-cert=config_test.go", "--peer-key=config_test.go"}, "peer_ca: needed"},
		{"two stores", append(meshed, "--data=d"), "data: either data or mongodb_uri"},
		{"MongoDB", meshed, ""},
		{"MongoDB by SRV", []string{"--mongodb-uri=mongodb+srv://a", "--mesh-key=" + secret16}, ""},
		{"not MongoDB", []string{"--mongodb-uri=postgres://a", "--mesh-key=" + secret16}, "mongodb_uri: must be of the form"},
		{"MongoDB nowhere", []string{"--mongodb-uri=mongodb://", "--mesh-key=" + secret16}, "mongodb_uri: must be of the form"},
		{"database", append(meshed, "--mongodb-database=a.b"), `mongodb_database: "a.b"`},
		{"join without a shared store", []string{"--join=a:1"}, "join: servers of one mesh share a store"},
		{"MongoDB without key", []string{mongo}, "mesh_key: needed"},
		{"mesh key", []string{"--mesh-key=short"}, "mesh_key: must have 16"},
		{"join", append(meshed, "--join=a"), `join: "a" is not of the form`},
		{"advertise", []string{"--gossip-advertise=a:b"}, `gossip_advertise: "a:b" is not of the form`},
		{"peers on all addresses", append(meshed, "--peer-host=0.0.0.0"), "peer_url: needed"},
		{"peer URL", []string{"--peer-url=a"}, "peer_url: must be a URL"},
		{"retention", []string{"--keep-device=age=1h, entries=5,bytes=1MiB,acknowledged=1m", "--keep-user=", "--quota-session=entries=2,bytes=3MiB"}, ""},
		{"retention, no age", []string{"--keep-session=age=5"}, `keep_session: "5" is not a period`},
		{"retention by the wrong name", []string{"--keep-user=days=5"}, `keep_user: "days" is none of`},
		{"retention twice", []string{"--keep-user=age=5h,age=6h"}, `keep_user: age is given twice`},
		{"retention of what was acknowledged", []string{"--keep-session=acknowledged=5h"}, `keep_session: acknowledged is for devices`},
		{"quota of nothing", []string{"--quota-user=entries=0"}, `quota_user: entries: "0" is not`},
		{"quota by age", []string{"--quota-device=age=5h"}, `quota_device: a quota has entries and bytes`},
		{"quota of one entry", []string{"--quota-device=entries=1"}, `quota_device: must have room for two`},
		{"quota of two frames", []string{"--quota-device=bytes=2MiB"}, `quota_device: must have room for two entries and for three times`},
		{"quota without a unit", []string{"--quota-device=bytes=5MB"}, `quota_device: "5MB" is not a size`},
		{"dedupe window", []string{"--dedupe-window=1m"}, `dedupe_window: must be from 1h`},
		{"no presence", []string{"--presence=false"}, ""},
		{"metrics", []string{"--metrics-addr=8423"}, `metrics_addr: "8423" is not`},
		{"no metrics", []string{"--metrics-addr="}, ""},
		{"level", []string{"--log-level=INFO"}, `log_level: "INFO" is none`},
		{"format", []string{"--log-format="}, `log_format: "" is neither`},
		{"token secret", []string{"--token-secret=" + secret16}, "token_secret: must have 32"},
		{"push after nothing", []string{"--push-after=0s"}, "push_after: must be from 1s"},
		{"push all the time", []string{"--push-interval=1ms"}, "push_interval: must be from 1s"},
		{"half a key of Apple", []string{"--apns-key-id=a", "--apns-team-id=b"}, "apns_key_file: needed"},
		{"no such file of Google", []string{"--fcm-credentials=absent"}, "fcm_credentials: open absent"},
		{"browsers without a contact", []string{"--vapid-key-file=config_test.go"}, "vapid_subject: needed"},
		{"hooks", []string{"--hook-url=https://backend/events", "--hook-secret=" + secret32}, ""},
		{"hooks to nowhere", []string{"--hook-url=backend", "--hook-secret=" + secret32}, "hook_url: must be a URL"},
		{"hooks without a signature", []string{"--hook-url=https://backend/events"}, "hook_secret: must have 32"},
		{"hooks with a secret to be forgotten", []string{"--hook-url=https://backend/events", "--hook-secret=" + secret32, "--hook-previous-secret=x"}, "hook_previous_secret: must have 32"},
		{"hooks that take all day", []string{"--hook-timeout=24h"}, "hook_timeout: must be from 100ms"},
		{"hooks kept for a moment", []string{"--hook-keep=1s"}, "hook_keep: must be from 1h"},
		{"authorization", []string{"--authorize-url=https://backend/may", "--authorize-secret=" + secret32, "--authorize-for=connect,join,send", "--authorize-failure=allow", "--authorize-cache=0s"}, ""},
		{"authorization nowhere", []string{"--authorize-url=backend", "--authorize-secret=" + secret32}, "authorize_url: must be a URL"},
		{"authorization without a signature", []string{"--authorize-url=https://backend/may"}, "authorize_secret: must have 32"},
		{"authorization with a secret to be forgotten", []string{"--authorize-url=https://backend/may", "--authorize-secret=" + secret32, "--authorize-previous-secret=x"}, "authorize_previous_secret: must have 32"},
		{"authorization of nothing", []string{"--authorize-url=https://backend/may", "--authorize-secret=" + secret32, "--authorize-for="}, "authorize_for: needed"},
		{"authorization of everything", []string{"--authorize-for=all"}, `authorize_for: "all" is none of`},
		{"authorization that takes all day", []string{"--authorize-timeout=11s"}, "authorize_timeout: must be from 100ms to 10s"},
		{"authorization for ever", []string{"--authorize-cache=25h"}, "authorize_cache: must be from 0s to 24h"},
		{"authorization that fails somehow", []string{"--authorize-failure=open"}, `authorize_failure: "open" is neither`},
		{"guests", []string{"--guests", "--guest-ttl=90m", "--guest-rate=1"}, ""},
		{"guests for a moment", []string{"--guest-ttl=1s"}, "guest_ttl: must be from 1m"},
		{"guests for ever", []string{"--guest-ttl=2161h"}, "guest_ttl: must be from 1m0s to 2160h"},
		{"no guests", []string{"--guest-rate=0"}, "guest_rate: must be from 1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := load(t, "", append([]string{"--token-secret=" + secret32}, test.args...)...)
			switch problems, _ := err.(Problems); {
			case test.want == "":
				if err != nil {
					t.Errorf("refused: %v", err)
				}
			case len(problems) != 1:
				t.Errorf("%d problems (%v), want one: %s", len(problems), err, test.want)
			case !strings.HasPrefix(problems[0].Key+": "+problems[0].Text, test.want):
				t.Errorf("problem %v, want %s", problems[0], test.want)
			}
		})
	}
}

func TestTokenKeys(t *testing.T) {
	tests := []struct {
		name, file string
		want       string
	}{
		{"none", "", "token_keys: no key"},
		{"secret", "[{kid: a, secret: " + secret32 + "}]", ""},
		{"two", "[{kid: a, secret: " + secret32 + "}, {kid: b, pem_file: config_test.go}]", ""},
		{"JWKS", "[{jwks_url: 'https://example.com/keys'}]", ""},
		{"no id", "[{secret: " + secret32 + "}]", ""},
		{"bad id", "[{kid: 'a b', secret: " + secret32 + "}]", "token_keys[0].kid: "},
		{"rotation", "[{kid: a, secret: " + secret32 + "}, {kid: a, secret: " + secret32 + "}]", ""},
		{"JWKS with id", "[{kid: a, jwks_url: 'https://example.com/keys'}]", "token_keys[0].kid: the keys"},
		{"nothing", "[{kid: a}]", "token_keys[0]: give exactly one"},
		{"two sources", "[{kid: a, secret: " + secret32 + ", jwks_file: config_test.go}]", "token_keys[0]: give exactly one"},
		{"short", "[{kid: a, secret: short}]", "token_keys[0].secret: must have 32"},
		{"no file", "[{kid: a, pem_file: absent}]", "token_keys[0].pem_file: open absent"},
		{"no secret file", "[{kid: a, secret_file: absent}]", "token_keys[0].secret_file: open absent"},
		{"no URL", "[{jwks_url: keys}]", "token_keys[0].jwks_url: must be a URL"},
		{"unknown key", "[{kid: a, secret: " + secret32 + ", x: y}]", "token_keys[0].x: unknown key"},
		{"not a list", "{}", "token_keys: must be a list"},
		{"not keys", "[a]", "token_keys[0]: must hold keys"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := "{}"
			if test.file != "" {
				file = "token_keys: " + test.file
			}
			_, err := load(t, file)
			problems, _ := err.(Problems)
			if test.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if len(problems) == 0 || !strings.HasPrefix(problems[0].Key+": "+problems[0].Text, test.want) {
				t.Errorf("problems %v, want %s first", err, test.want)
			}
		})
	}
}

func TestHookReceivers(t *testing.T) {
	const some = "{name: some, url: 'https://some/events', secret: " + secret32
	for _, test := range []struct{ name, list, want string }{
		{"none", "[]", ""},
		{"one", "[" + some + "}]", ""},
		{"some types", "[" + some + ", types: [connected, push.failed]}]", ""},
		{"two secrets", "[" + some + ", previous_secret: " + secret32 + "}]", ""},
		{"secrets in files", "[{name: a, url: 'http://a', secret_file: " + secretFile(t) + ", previous_secret_file: " + secretFile(t) + "}]", ""},
		{"no such file", "[{name: a, url: 'http://a', secret_file: absent}]", "hooks[0].secret_file: open absent"},
		{"no name", "[{url: 'http://a', secret: " + secret32 + "}]", "hooks[0].name: "},
		{"one name twice", "[" + some + "}, " + some + "}]", "hooks[1].name: there is another"},
		{"the name of hook_url", "[{name: default, url: 'http://a', secret: " + secret32 + "}]", "hooks[0].name: there is another"},
		{"to nowhere", "[{name: a, url: a, secret: " + secret32 + "}]", "hooks[0].url: must be a URL"},
		{"no signature", "[{name: a, url: 'http://a'}]", "hooks[0].secret: must have 32"},
		{"a short previous secret", "[" + some + ", previous_secret: short}]", "hooks[0].previous_secret: must have 32"},
		{"no such type", "[" + some + ", types: [connect]}]", `hooks[0].types: "connect" is none of`},
		{"unknown key", "[" + some + ", type: connected}]", "hooks[0].type: unknown key"},
		{"not a list", "{}", "hooks: must be a list"},
		{"too many", "[" + strings.Repeat(some+"}, ", 17) + "]", "hooks: at most 16"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := load(t, "hooks: "+test.list, "--token-secret="+secret32, "--hook-url=https://backend/events", "--hook-secret="+secret32)
			problems, _ := err.(Problems)
			switch {
			case test.want != "":
				if len(problems) == 0 || !strings.HasPrefix(problems[0].Key+": "+problems[0].Text, test.want) {
					t.Errorf("problems %v, want %s first", err, test.want)
				}
			case err != nil:
				t.Errorf("refused: %v", err)
			default:
				all := l.HookReceivers()
				if len(all) != len(l.Hooks)+1 || all[0].Name != "default" || all[0].URL != "https://backend/events" || len(all[0].Secrets) != 1 {
					t.Errorf("receivers %+v", all)
				}
				for i, r := range all[1:] {
					of := l.Hooks[i]
					if r.Name != of.Name || r.URL != of.URL || string(r.Secrets[0]) != secret32 || len(r.Types) != len(of.Types) ||
						(len(r.Secrets) == 2) != (of.PreviousSecret != "") {
						t.Errorf("%+v of %+v", r, of)
					}
				}
			}
		})
	}
}

func TestValues(t *testing.T) {
	const tokenSecret = "fedcba9876543210fedcba9876543210"
	l, err := load(t, "drain_timeout: 1m\norigins: [a, ' b ']\ntoken_keys: [{kid: k, secret_file: "+secretFile(t)+"}]", "--force", "--port=1", "--token-secret="+tokenSecret)
	if err != nil {
		t.Fatal(err)
	}
	if l.DrainTimeout != time.Minute || !l.Force || l.Port != 1 || l.MaxConnections != 50_000 ||
		!reflect.DeepEqual(l.Origins, []string{"a", "b"}) || l.TokenKeys[0].Secret != secret32 {
		t.Errorf("read %+v", l.Config)
	}
	if l.Addr() != "127.0.0.1:1" || l.GossipAddr() != "127.0.0.1:8421" || l.PeerAddr() != "127.0.0.1:8422" {
		t.Errorf("addresses %s %s %s", l.Addr(), l.GossipAddr(), l.PeerAddr())
	}
	if sources := l.KeySources(); len(sources) != 2 || string(sources[0].Secret) != tokenSecret || sources[1].ID != "k" {
		t.Errorf("%d key sources, want the secret and then k", len(sources))
	}
	if len(l.MeshKey) < minMeshKey || l.Meshed() {
		t.Errorf("a lone server has mesh key %q", l.MeshKey)
	}
}

// TestUnknownPorts checks that nothing is made up from a port that is picked later.
func TestUnknownPorts(t *testing.T) {
	l, err := load(t, "", "--token-secret="+secret32, "--port=0", "--gossip-port=0", "--peer-port=0")
	if err != nil {
		t.Fatal(err)
	}
	if l.NodeID != "" || l.URL != "" || l.GossipAdvertise != "" || l.PeerURL != "" {
		t.Errorf("made up %q %q %q %q", l.NodeID, l.URL, l.GossipAdvertise, l.PeerURL)
	}
}

// TestIPv6 checks that what is made up of an address with brackets is in order.
func TestIPv6(t *testing.T) {
	l, err := load(t, "", "--token-secret="+secret32, "--host=::1")
	if err != nil || l.NodeID != "::1:8420" || l.URL != "http://[::1]:8420" {
		t.Errorf("made up %q and %q: %v", l.NodeID, l.URL, err)
	}
}

func secretFile(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(secret32+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMaskURL(t *testing.T) {
	tests := []struct{ url, want string }{
		{"https://example.com/a?b=c", "https://example.com/a?b=c"},
		{"/node/a", "/node/a"},
		{"mongodb://me@host", "mongodb://me@host"},
		{"mongodb://me:pw@host:1,host:2/db", "mongodb://me:***@host:1,host:2/db"},
		{"mongodb://me:p@w:x@host", "mongodb://me:***@host"},
		{"mongodb://h/?tlsCertificateKeyFilePassword=pw&w=1", "mongodb://h/?tlsCertificateKeyFilePassword=***&w=1"},
		{"https://h/?a=b&API_KEY=pw", "https://h/?a=b&API_KEY=***"},
		{"me:pw@host", "***"},
	}
	for _, test := range tests {
		if got := MaskURL(test.url); got != test.want {
			t.Errorf("MaskURL(%q) = %q, want %q", test.url, got, test.want)
		}
	}
}

// TestTable checks that every row can be given and shown: a name, a kind that
// parse knows, and a rule for what may be shown.
func TestTable(t *testing.T) {
	var rows []setting
	for _, of := range []any{new(Config), new(TokenKey), new(HookReceiver)} {
		seen := make(map[string]bool)
		for _, s := range settings(reflect.ValueOf(of).Elem()) {
			if s.key == "" || seen[s.key] {
				t.Errorf("%q names no row of a %T, or two", s.key, of)
			}
			seen[s.key] = true
			rows = append(rows, s)
		}
	}
	for _, s := range rows {
		switch s.value.Interface().(type) {
		case string, int, bool, time.Duration, []string, []TokenKey, []HookReceiver, PushText:
		default:
			t.Errorf("%s has the type %s, which parse does not know", s.key, s.value.Type())
		}
		if s.has("initial") {
			if err := s.parse(s.tag.Get("initial")); err != nil {
				t.Errorf("%s: %v", s.key, err)
			}
		}
		if strings.HasSuffix(s.key, "url") || strings.HasSuffix(s.key, "uri") {
			if !s.has("url") {
				t.Errorf("%s is shown with its password", s.key)
			}
		}
		if fills := s.tag.Get("fills"); s.has("fills") && s.key != fills+"_file" {
			t.Errorf("%s fills %s", s.key, fills)
		}
	}
}

// FuzzFile checks that no file makes the reader panic or show a secret.
func FuzzFile(f *testing.F) {
	f.Add("port: 1\njoin: [a:1]\ntoken_keys: [{kid: a, secret: x}]")
	f.Add("&a [*a]")
	f.Add("? [a]\n: b")
	f.Add("---\n...")
	f.Add("token_keys: &a [{kid: *a}]")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, _ := (&Flags{File: path}).Load(func(key string) (string, bool) {
			return "OPENSESAME", key == "ALLSPARK_MESH_KEY"
		})
		var out strings.Builder
		if err := l.WriteYAML(&out); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), "OPENSESAME") && !strings.Contains(text, "OPENSESAME") {
			t.Error("the mesh key is shown")
		}
	})
}
