package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxSetSize = 1 << 20 // bytes of a JWK set
	maxSetKeys = 128     // also the most signatures that one token can make us check
)

// parseJWKS reads the public signature keys of a JWK set (RFC 7517, section 5).
// Keys that it cannot use are left out and counted, as the RFC asks; among
// them are private keys and shared secrets, which a published set must not hold.
func parseJWKS(data []byte) (keys []key, skipped int, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, 0, errors.New("not a JWK set")
	}
	if len(set.Keys) > maxSetKeys {
		return nil, 0, fmt.Errorf("JWK set has %d keys, at most %d are taken", len(set.Keys), maxSetKeys)
	}
	for _, raw := range set.Keys {
		k, err := parseJWK(raw)
		if err != nil {
			skipped++
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, skipped, errors.New("JWK set has no usable key")
	}
	return keys, skipped, nil
}

func parseJWK(raw json.RawMessage) (key, error) {
	var private struct {
		D json.RawMessage `json:"d"`
		K json.RawMessage `json:"k"`
	}
	if err := json.Unmarshal(raw, &private); err != nil {
		return key{}, err
	}
	if private.D != nil || private.K != nil {
		return key{}, errors.New("not a public key")
	}
	var jwk jose.JSONWebKey
	if err := json.Unmarshal(raw, &jwk); err != nil {
		return key{}, err
	}
	if jwk.Use != "" && jwk.Use != "sig" {
		return key{}, errors.New("not for signatures")
	}
	k, err := newKey(jwk.KeyID, jwk.Key)
	if err != nil || jwk.Algorithm == "" {
		return k, err
	}
	return k.only(jwk.Algorithm)
}

// checkSetURL takes https, and http to this machine, without a password in it.
func checkSetURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("JWK set URL does not parse")
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	switch {
	case host == "" || u.User != nil:
		return nil, errors.New("JWK set URL needs a host and no user")
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback):
		return nil, errors.New("JWK set URL must be https, or http to this machine")
	}
	return u, nil
}

// fetchSet gets a JWK set. The client must not follow redirects, because a
// redirect could lead to a host that nobody configured.
func fetchSet(ctx context.Context, client *http.Client, u *url.URL) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL, whose query may be secret
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	return readLimited(resp.Body, maxSetSize)
}

// readLimited reads all of r, or fails when there is more than limit.
func readLimited(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return data, err
}
