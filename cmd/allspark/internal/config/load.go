package config

import (
	"crypto/rand"
	"fmt"
	"os"
	"strings"
)

// Loaded is a configuration with the source of each value.
type Loaded struct {
	Config

	sources  map[string]string // by key; none for a default
	problems Problems
}

// Load reads the configuration: flags over environment over file over
// defaults. The error is [Problems], all there are; the configuration is
// returned with them, for showing and nothing else.
func (f *Flags) Load(lookupEnv func(string) (string, bool)) (*Loaded, error) {
	l := &Loaded{sources: make(map[string]string)}
	rows := table(&l.Config)
	for _, s := range rows {
		if text, ok := s.tag.Lookup("initial"); ok {
			l.take(s, "", s.parse(text))
		}
	}
	if f.File != "" {
		l.readFile(f.File, "--config")
	} else if path, _ := lookupEnv("ALLSPARK_CONFIG"); path != "" {
		l.readFile(path, "ALLSPARK_CONFIG")
	}
	for _, s := range rows {
		if s.fileOnly() {
			continue
		}
		if text, ok := lookupEnv(s.env()); ok {
			l.take(s, s.env(), s.parse(text))
		}
		switch given := f.given[s.flag()]; {
		case len(given) == 0:
		case s.isList():
			l.take(s, "--"+s.flag(), s.parse(strings.Join(given, ",")))
		default:
			l.take(s, "--"+s.flag(), s.parse(given[len(given)-1]))
		}
	}
	l.fillSecrets("", rows)
	l.derive()
	l.check()
	if len(l.problems) > 0 {
		return l, l.problems
	}
	return l, nil
}

// take notes the source of a value, and its problem when it had one. A value
// that wins over a bad one does not hide it.
func (l *Loaded) take(s setting, source string, err error) {
	l.sources[s.key] = source
	if err != nil {
		l.problems = append(l.problems, Problem{s.key, source, err.Error()})
	}
}

// problem notes what is wrong with the value of a key.
func (l *Loaded) problem(key, format string, args ...any) {
	l.problems = append(l.problems, Problem{key, l.sources[key], fmt.Sprintf(format, args...)})
}

// fillSecrets reads the files that hold secrets. Line breaks at the end are not part of them.
func (l *Loaded) fillSecrets(prefix string, rows []setting) {
	byKey := make(map[string]setting, len(rows))
	for _, s := range rows {
		byKey[s.key] = s
	}
	for _, s := range rows {
		path := ""
		if s.has("fills") {
			path = s.value.String()
		}
		if path == "" {
			continue
		}
		key, secret := prefix+s.key, byKey[s.tag.Get("fills")]
		if secret.value.String() != "" {
			l.problem(key, "%s is given too", prefix+secret.key)
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			l.problem(key, "%v", err)
			continue
		}
		secret.value.SetString(strings.TrimRight(string(content), "\r\n"))
		l.sources[prefix+secret.key] = prefix + s.key
		if secret.value.String() == "" {
			l.problem(key, "%s is empty", path)
		}
	}
}

// derive sets the defaults that follow from other values. What depends on a
// port that is not known yet stays empty.
func (l *Loaded) derive() {
	c := &l.Config
	def := func(value *string, derived string) {
		if *value == "" {
			*value = derived
		}
	}
	if c.MongoDBURI == "" && c.MongoDBURIFile == "" {
		def(&c.Data, "./allspark-data")
	}
	if c.Port != 0 && isHost(c.Host) && !unspecified(c.Host) {
		def(&c.NodeID, IDOf(c.Addr()))
		def(&c.URL, scheme(c.TLSCert)+c.Addr())
	}
	def(&c.GossipHost, c.Host)
	if c.GossipPort != 0 && isHost(c.GossipHost) && !unspecified(c.GossipHost) {
		def(&c.GossipAdvertise, c.GossipAddr())
	}
	def(&c.PeerHost, c.GossipHost)
	if c.PeerPort != 0 && isHost(c.PeerHost) && !unspecified(c.PeerHost) {
		def(&c.PeerURL, scheme(c.PeerCert)+c.PeerAddr())
	}
	if c.MeshKey == "" && c.MeshKeyFile == "" && !c.Meshed() {
		c.MeshKey, l.sources["mesh_key"] = rand.Text(), "random"
	}
}

func scheme(cert string) string {
	if cert != "" {
		return "https://"
	}
	return "http://"
}
