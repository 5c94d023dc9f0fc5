package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
)

// seal signs JWTs (HS256) that only the servers of a mesh make and take, all with
// one header: what has another one is none of them, so there is nothing in it to
// be believed. It is safe for concurrent use.
type seal struct {
	key    []byte    // static after construction
	header string    // static after construction; encoded, with the dot
	macs   sync.Pool // of hash.Hash, with the key
}

// newSeal returns the seal of one kind of token, by its typ.
func newSeal(key []byte, typ string) *seal {
	return &seal{
		key:    key,
		header: base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"`+typ+`"}`)) + ".",
		macs:   sync.Pool{New: func() any { return hmac.New(sha256.New, key) }},
	}
}

// sign makes a token (RFC 7515, section 5.1).
func (s *seal) sign(claims any) (string, error) {
	text, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	b := make([]byte, 0, len(s.header)+base64.RawURLEncoding.EncodedLen(len(text))+1+macSize)
	b = base64.RawURLEncoding.AppendEncode(append(b, s.header...), text)
	mac := s.mac(b)
	return string(append(append(b, '.'), mac[:]...)), nil
}

// open checks the signature of a token that has passed [checkForm], and reads
// its claims.
func (s *seal) open(token string, claims any) error {
	if !strings.HasPrefix(token, s.header) {
		return errType
	}
	dot := strings.LastIndexByte(token, '.')
	// Compared as text, a signature has one spelling.
	if mac := s.mac([]byte(token[:dot])); !hmac.Equal(mac[:], []byte(token[dot+1:])) {
		return errSignature
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(token[len(s.header):dot])
	if err != nil || json.Unmarshal(text, claims) != nil { // whose text might quote the token
		return errForm
	}
	return nil
}

// macSize is the length of an encoded signature: of 32 bytes, six bits each.
const macSize = (sha256.Size*8 + 5) / 6

func (s *seal) mac(text []byte) (encoded [macSize]byte) {
	h := s.macs.Get().(hash.Hash)
	defer s.macs.Put(h)
	h.Reset()
	h.Write(text)
	var sum [sha256.Size]byte
	base64.RawURLEncoding.Encode(encoded[:], h.Sum(sum[:0]))
	return encoded
}
