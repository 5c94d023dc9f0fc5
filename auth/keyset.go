package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	refreshEvery = 5 * time.Minute  // when all is well
	retryEvery   = 30 * time.Second // while a source fails
	minRefresh   = 10 * time.Second // between refreshes that tokens cause
	maxStale     = 24 * time.Hour   // how long a failing source keeps its keys
	loadTimeout  = 5 * time.Second
)

// KeySource says where keys come from: exactly one of Secret, PEMFile,
// JWKSFile and JWKSURL. Sources may share an ID; a token that names it is
// tried with each of their keys.
type KeySource struct {
	// ID is what a token's kid must be; "" for tokens without a kid. JWK sets
	// bring their own ids, so it must be "" for them.
	ID string
	// Issuer is what a token's iss must be; "" for any. Where several issuers
	// have keys, one could sign for another without it (RFC 8725, section 3.8).
	Issuer string
	// Secret is shared with whoever mints the tokens: at least 32 bytes, and
	// random, since a token lets anybody try guesses at it.
	Secret Secret
	// PEMFile has public keys or certificates.
	PEMFile string
	// JWKSFile has a JWK set.
	JWKSFile string
	// JWKSURL leads to a JWK set: https, or http to this machine. Redirects
	// are not followed.
	JWKSURL string
}

// keySet knows the keys of all sources and keeps them fresh.
type keySet struct {
	// static after construction
	sources []*source
	now     func() time.Time
	log     *slog.Logger

	// replaced as a whole
	current atomic.Pointer[snapshot]

	turn chan struct{} // holds one token while a refresh is under way
	// only the refresh under way
	tried time.Time // when the last one ended
}

// snapshot is what is known at one time. It is never changed.
type snapshot struct {
	byID    map[string][]key
	failing bool // a source's last load failed: its keys may be old
}

type source struct {
	// static after construction
	name string
	of   string                               // the issuer of the tokens that its keys verify; "" any
	load func(context.Context) ([]key, error) // nil when the keys never change

	// only the refresh under way
	keys   []key
	loaded time.Time // when it last succeeded
	err    error     // of the last load
}

// newKeySet loads all sources once. A file that cannot be loaded is an error;
// a URL may be away for now.
func newKeySet(ctx context.Context, c *Config) (*keySet, error) {
	s := &keySet{now: c.Now, log: c.Logger, turn: make(chan struct{}, 1)}
	for i, ks := range c.Keys {
		src, err := ks.open(c)
		if err != nil {
			return nil, fmt.Errorf("auth: key source %d: %w", i+1, err)
		}
		src.of = ks.Issuer
		s.sources = append(s.sources, src)
	}
	if err := s.refresh(ctx, ctx, 0); err != nil {
		return nil, fmt.Errorf("auth: loading keys: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("auth: loading keys: %w", err)
	}
	for i, src := range s.sources {
		if src.err != nil && c.Keys[i].JWKSURL == "" {
			return nil, fmt.Errorf("auth: key source %s: %w", src.name, src.err)
		}
	}
	return s, nil
}

// open checks a source's form and says how to load it.
func (ks *KeySource) open(c *Config) (*source, error) {
	given := 0
	for _, is := range [...]bool{len(ks.Secret) > 0, ks.PEMFile != "", ks.JWKSFile != "", ks.JWKSURL != ""} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, errors.New("needs exactly one of secret, PEM file, JWK set file and JWK set URL")
	case ks.ID != "" && (ks.JWKSFile != "" || ks.JWKSURL != ""):
		return nil, errors.New("a JWK set brings its own key ids")
	}
	id := ks.ID
	switch {
	case ks.PEMFile != "":
		path := ks.PEMFile
		return &source{name: path, load: func(context.Context) ([]key, error) {
			data, err := readFile(path)
			if err != nil {
				return nil, err
			}
			return parsePEM(id, data)
		}}, nil
	case ks.JWKSFile != "":
		path := ks.JWKSFile
		return &source{name: path, load: func(context.Context) ([]key, error) {
			data, err := readFile(path)
			return c.usable(path, data, err)
		}}, nil
	case ks.JWKSURL != "":
		u, err := checkSetURL(ks.JWKSURL)
		if err != nil {
			return nil, err
		}
		client := http.Client{}
		if c.HTTPClient != nil {
			client = *c.HTTPClient
		}
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		name := u.Scheme + "://" + u.Host + u.Path
		return &source{name: name, load: func(ctx context.Context) ([]key, error) {
			data, err := fetchSet(ctx, &client, u)
			return c.usable(name, data, err)
		}}, nil
	}
	k, err := newKey(id, slices.Clone([]byte(ks.Secret)))
	return &source{name: "secret", keys: []key{k}}, err
}

// usable reads a JWK set and logs when keys of it were left out.
func (c *Config) usable(name string, data []byte, err error) ([]key, error) {
	if err != nil {
		return nil, err
	}
	keys, skipped, err := parseJWKS(data)
	if skipped > 0 {
		c.Logger.Warn("keys of a JWK set left out", "source", name, "skipped", skipped, "used", len(keys))
	}
	return keys, err
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, maxSetSize)
}

// find returns the keys that a token with this kid, algorithm and issuer may be
// checked with, after a refresh when nobody knows the kid.
func (s *keySet) find(ctx context.Context, kid, alg, iss string) ([]key, error) {
	snap := s.current.Load()
	known := snap.of(kid, iss)
	if known == nil && !strings.HasPrefix(alg, "HS") && s.reloads() {
		// Only secrets verify HS…, and they do not change.
		if err := s.refresh(ctx, context.WithoutCancel(ctx), minRefresh); err != nil {
			return nil, envelope.BusyError(0, "", err)
		}
		snap = s.current.Load()
		if known = snap.of(kid, iss); known == nil && snap.failing {
			return nil, envelope.BusyError(minRefresh.Milliseconds(), "keys are not available", errUnknownKey)
		}
	}
	if known == nil {
		return nil, fmt.Errorf("%w %.64q", errUnknownKey, kid)
	}
	var fit []key
	for _, k := range known {
		if slices.Contains(k.algs, alg) {
			fit = append(fit, k)
		}
	}
	if fit == nil {
		return nil, errAlgorithm
	}
	return fit, nil
}

// of returns the keys by a name that may sign for an issuer.
func (s *snapshot) of(kid, iss string) (keys []key) {
	for _, k := range s.byID[kid] {
		if k.of == "" || k.of == iss {
			keys = append(keys, k)
		}
	}
	return keys
}

// reloads reports whether any source can change.
func (s *keySet) reloads() bool {
	return slices.ContainsFunc(s.sources, func(src *source) bool { return src.load != nil })
}

// run refreshes until ctx ends.
func (s *keySet) run(ctx context.Context) {
	timer := time.NewTimer(s.pause())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if s.refresh(ctx, ctx, 0) != nil {
			return
		}
		timer.Reset(s.pause())
	}
}

func (s *keySet) pause() time.Duration {
	if s.current.Load().failing {
		return retryEvery
	}
	return refreshEvery
}

// refresh loads all sources, unless that was done less than minAge ago, which
// it is for those who waited while another did it. It waits for its turn until
// wait ends, and works until work does; the error is wait's.
func (s *keySet) refresh(wait, work context.Context, minAge time.Duration) error {
	select {
	case s.turn <- struct{}{}:
	case <-wait.Done():
		return wait.Err()
	}
	defer func() { <-s.turn }()
	if age := s.now().Sub(s.tried); age >= 0 && age < minAge {
		return nil
	}
	var wg sync.WaitGroup
	for _, src := range s.sources {
		if src.load != nil {
			wg.Go(func() { src.reload(work, s.now, s.log) })
		}
	}
	wg.Wait()

	snap := &snapshot{byID: make(map[string][]key)}
	for _, src := range s.sources {
		for _, k := range src.keys {
			k.of = src.of
			snap.byID[k.id] = append(snap.byID[k.id], k)
		}
		snap.failing = snap.failing || src.err != nil
	}
	s.current.Store(snap)
	s.tried = s.now()
	return nil
}

func (src *source) reload(ctx context.Context, now func() time.Time, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	keys, err := src.load(ctx)
	src.err = err
	if err == nil {
		src.keys, src.loaded = keys, now()
		return
	}
	if now().Sub(src.loaded) > maxStale {
		src.keys = nil
	}
	log.Warn("keys could not be loaded", "source", src.name, "old_keys_kept", len(src.keys), "err", err)
}
