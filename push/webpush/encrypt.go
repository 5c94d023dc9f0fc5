package webpush

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

const (
	recordSize   = 4096 // bytes of a message; more need not be taken (RFC 8291, section 4)
	saltSize     = 16
	keySize      = 65 // an uncompressed point of P-256
	headerSize   = saltSize + 4 + 1 + keySize
	overhead     = 1 + 16 // the delimiter and AES-GCM's tag
	maxPlaintext = recordSize - headerSize - overhead
	// A message's length says something about it, so it is rounded up.
	paddingStep = 256
)

// encrypt encrypts a message for a subscription with a key and a salt of its
// own (RFC 8291). The plaintext has at most maxPlaintext bytes.
func encrypt(subscriber, secret, plaintext []byte) ([]byte, error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails
	padded := min((len(plaintext)+paddingStep-1)/paddingStep*paddingStep, maxPlaintext)
	return seal(key, salt, subscriber, secret, plaintext, padded)
}

// seal returns the one record of a message in the aes128gcm encoding (RFC 8188,
// section 2): salt, record size, key, and the plaintext padded to a length.
func seal(key *ecdh.PrivateKey, salt, subscriber, secret, plaintext []byte, padded int) ([]byte, error) {
	peer, err := ecdh.P256().NewPublicKey(subscriber)
	if err != nil {
		return nil, err
	}
	public := key.PublicKey().Bytes()
	shared, err := key.ECDH(peer)
	if err != nil {
		return nil, err
	}
	aead, nonce, err := deriveKeys(shared, secret, salt, subscriber, public)
	if err != nil {
		return nil, err
	}
	record := make([]byte, 0, headerSize+max(len(plaintext), padded)+overhead)
	record = append(record, salt...)
	record = binary.BigEndian.AppendUint32(record, recordSize)
	record = append(record, keySize)
	record = append(record, public...)

	content := append(slices.Clone(plaintext), 2) // the last record's delimiter
	content = append(content, make([]byte, max(padded-len(plaintext), 0))...)
	return aead.Seal(record, nonce, content, nil), nil
}

// deriveKeys derives the content's key and nonce (RFC 8291, section 3.4) from
// the shared secret, the subscription's secret and the two public keys.
func deriveKeys(shared, secret, salt, subscriber, public []byte) (_ cipher.AEAD, nonce []byte, _ error) {
	info := slices.Concat([]byte("WebPush: info\x00"), subscriber, public)
	ikm, err := hkdf.Key(sha256.New, shared, secret, string(info), sha256.Size)
	if err != nil {
		return nil, nil, err
	}
	key, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, nil, err
	}
	nonce, err = hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	return aead, nonce, err
}
