package auth

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/allsparkrt/allspark/envelope"
)

// MintKey signs auth keys: a Secret (HS256), or a private key in PEM (RS256,
// ES256, ES384, ES512 or EdDSA, by its kind).
type MintKey struct {
	ID     string // put into the header as kid; "" leaves it out
	Secret Secret
	PEM    Secret
}

// Claims is what an auth key is to say.
type Claims struct {
	Client    envelope.ClientID
	Node      envelope.NodeID // "": same as Client
	App       bool
	Rights    *envelope.Rights // nil: not bound; not for the app
	Issuer    string
	Audience  []string
	JTI       string    // "": random
	Issued    time.Time // required
	NotBefore time.Time // zero: none
	Expires   time.Time // required
}

// Mint makes an auth key. It refuses what no [Verifier] would accept. Backends
// can do the same with any JWT library; servers never mint auth keys.
func Mint(k MintKey, c Claims) (string, error) {
	method, private, err := k.open()
	if err != nil {
		return "", fmt.Errorf("auth: mint: %w", err)
	}
	if c.Node == "" {
		c.Node = envelope.NodeID(c.Client)
	}
	if c.JTI == "" {
		c.JTI = rand.Text()
	}
	switch {
	case !envelope.ValidID(string(c.Client)) || !envelope.ValidID(string(c.Node)):
		return "", fmt.Errorf("auth: mint: %w", errID)
	case len(c.JTI) > maxClaim || len(c.Issuer) > maxClaim:
		return "", fmt.Errorf("auth: mint: %w", errLongClaim)
	case c.Rights != nil && !mintable(c):
		return "", fmt.Errorf("auth: mint: %w", errRights)
	case c.Issued.IsZero() || !c.Expires.After(c.Issued):
		return "", errors.New("auth: mint: must expire after it was issued")
	}
	claims := jwt.MapClaims{
		"sub": string(c.Client), "nid": string(c.Node), "jti": c.JTI,
		"iat": c.Issued.Unix(), "exp": c.Expires.Unix(),
	}
	if c.App {
		claims["app"] = true
	}
	if c.Rights != nil {
		claims["rights"] = c.Rights
	}
	if c.Issuer != "" {
		claims["iss"] = c.Issuer
	}
	if len(c.Audience) > 0 {
		claims["aud"] = c.Audience
	}
	if !c.NotBefore.IsZero() {
		claims["nbf"] = c.NotBefore.Unix()
	}
	t := jwt.NewWithClaims(method, claims)
	if k.ID != "" {
		t.Header["kid"] = k.ID
	}
	token, err := t.SignedString(private)
	if err != nil {
		return "", fmt.Errorf("auth: mint: %w", err)
	}
	if len(token) > MaxTokenSize {
		return "", fmt.Errorf("auth: mint: %w", errTooLong)
	}
	return token, nil
}

// mintable reports whether rights can be read again from a key.
func mintable(c Claims) bool {
	text, err := json.Marshal(c.Rights)
	if err == nil {
		_, err = envelope.ParseRights(text)
	}
	return err == nil && !c.App
}

// open returns the signing key and the algorithm that goes with it.
func (k *MintKey) open() (jwt.SigningMethod, any, error) {
	if (len(k.Secret) > 0) == (len(k.PEM) > 0) {
		return nil, nil, errors.New("needs a secret or a private key")
	}
	if len(k.Secret) > 0 {
		_, err := newKey("", []byte(k.Secret))
		return jwt.SigningMethodHS256, []byte(k.Secret), err
	}
	block, _ := pem.Decode(k.PEM)
	if block == nil {
		return nil, nil, errors.New("no PEM block")
	}
	var private any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		err = fmt.Errorf("PEM block %q is not a private key", block.Type)
	}
	if err != nil {
		return nil, nil, err
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("a %T does not sign tokens", private)
	}
	public, err := newKey("", signer.Public())
	if err != nil {
		return nil, nil, err
	}
	return jwt.GetSigningMethod(public.algs[0]), private, nil
}
