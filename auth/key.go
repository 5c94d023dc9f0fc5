package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

const (
	minSecret  = 32   // bytes
	minRSABits = 2048 // RFC 7518, section 3.3
	maxRSABits = 8192 // a larger one makes every check slow
)

// key verifies signatures. It is never changed.
type key struct {
	id    string
	algs  []string // the only algorithms it may be used with
	of    string   // the only issuer whose tokens it verifies; "" any
	value any      // []byte, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
}

// newKey binds a secret or public key to the algorithms of its kind
// (RFC 7518, section 3.1, and RFC 8037), and refuses weak ones.
func newKey(id string, value any) (key, error) {
	k := key{id: id, value: value}
	switch v := value.(type) {
	case []byte:
		if len(v) < minSecret {
			return key{}, fmt.Errorf("secret has %d bytes, needs at least %d", len(v), minSecret)
		}
		if bytes.Contains(v, []byte("-----BEGIN ")) {
			// Everybody has a public key, so as a secret it would admit everybody.
			return key{}, errors.New("secret is a PEM file")
		}
		k.algs = []string{"HS256", "HS384", "HS512"}
	case *rsa.PublicKey:
		if n := v.N.BitLen(); n < minRSABits || n > maxRSABits {
			return key{}, fmt.Errorf("RSA key has %d bits, needs %d to %d", n, minRSABits, maxRSABits)
		}
		k.algs = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		switch v.Curve {
		case elliptic.P256():
			k.algs = []string{"ES256"}
		case elliptic.P384():
			k.algs = []string{"ES384"}
		case elliptic.P521():
			k.algs = []string{"ES512"}
		default:
			return key{}, errors.New("elliptic curve is not P-256, P-384 or P-521")
		}
	case ed25519.PublicKey:
		k.algs = []string{"EdDSA"}
	default:
		return key{}, fmt.Errorf("a %T does not verify tokens", value)
	}
	return k, nil
}

// only narrows the key to one algorithm, as the "alg" of a JWK does.
func (k key) only(alg string) (key, error) {
	if !slices.Contains(k.algs, alg) {
		return key{}, errAlgorithm
	}
	k.algs = []string{alg}
	return k, nil
}

// parsePEM reads the public keys and certificates of a PEM file. Private keys
// are refused: a server that only verifies must not hold one.
func parsePEM(id string, data []byte) ([]key, error) {
	var keys []key
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var value any
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			value, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			value, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var cert *x509.Certificate
			if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
				value = cert.PublicKey
			}
		default:
			return nil, fmt.Errorf("PEM block %q is not a public key or certificate", block.Type)
		}
		if err != nil {
			return nil, err
		}
		k, err := newKey(id, value)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("no PEM block")
	}
	return keys, nil
}
