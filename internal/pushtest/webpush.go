package pushtest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// WebPush is a push service for browsers, with one subscription of one browser.
type WebPush struct {
	*Service
	Key      []byte // the application server's, in PEM; the subscription is for it only
	Endpoint string
	P256DH   []byte
	Auth     []byte
}

// NewWebPush starts one.
func NewWebPush(t testing.TB) *WebPush {
	t.Helper()
	server := newKey(t)
	browser, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &WebPush{Key: KeyPEM(t, server), P256DH: browser.PublicKey().Bytes(), Auth: make([]byte, 16)}
	rand.Read(w.Auth)
	w.Service = start(t, newAuthority(t), false, func(r *http.Request, body *[]byte) *Answer {
		if status := w.refuse(r, *body, &server.PublicKey); status != 0 {
			return &Answer{Status: status}
		}
		plaintext, err := Decrypt(browser, w.Auth, *body)
		if err != nil { // the browser would, not the service
			return &Answer{Status: http.StatusTeapot}
		}
		*body = plaintext
		return nil
	}, Answer{Status: http.StatusCreated, Header: http.Header{"Location": {"/m/1"}}})
	w.Endpoint = w.URL + "/p/" + rand.Text()
	return w
}

var (
	topicForm  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)
	vapidParam = regexp.MustCompile(`^vapid t=([A-Za-z0-9_.-]+), ?k=([A-Za-z0-9_-]+)$`)
)

// refuse checks a request by RFC 8030, section 5, and RFC 8292, section 4.2.
func (w *WebPush) refuse(r *http.Request, body []byte, server *ecdsa.PublicKey) (status int) {
	ttl, err := strconv.ParseUint(r.Header.Get("Ttl"), 10, 31)
	topic := r.Header.Get("Topic")
	switch {
	case w.URL+r.URL.Path != w.Endpoint:
		return http.StatusNotFound
	case r.Method != http.MethodPost:
		return http.StatusMethodNotAllowed
	case err != nil || ttl > 28*24*3600:
		return http.StatusBadRequest
	case topic != "" && !topicForm.MatchString(topic):
		return http.StatusBadRequest
	case !slices.Contains([]string{"", "very-low", "low", "normal", "high"}, r.Header.Get("Urgency")):
		return http.StatusBadRequest
	case r.Header.Get("Content-Encoding") != "aes128gcm":
		return http.StatusUnsupportedMediaType
	case len(body) > 4096:
		return http.StatusRequestEntityTooLarge
	}
	params := vapidParam.FindStringSubmatch(r.Header.Get("Authorization"))
	if params == nil {
		return http.StatusUnauthorized
	}
	point, err := base64.RawURLEncoding.DecodeString(params[2])
	if err != nil {
		return http.StatusForbidden
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil || !key.Equal(server) {
		return http.StatusForbidden
	}
	claims := jwt.MapClaims{}
	_, err = jwt.ParseWithClaims(params[1], claims, func(*jwt.Token) (any, error) { return key, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(w.URL), jwt.WithExpirationRequired())
	expires, _ := claims.GetExpirationTime()
	subject, _ := claims.GetSubject()
	if err != nil || time.Until(expires.Time) > 24*time.Hour || !strings.HasPrefix(subject, "mailto:") && !strings.HasPrefix(subject, "https:") {
		return http.StatusForbidden
	}
	return 0
}

var errNotEncrypted = errors.New("not a message of one aes128gcm record")

// Decrypt does what a browser does with a message (RFC 8291, section 3, and RFC
// 8188, section 2.1).
func Decrypt(browser *ecdh.PrivateKey, auth, message []byte) ([]byte, error) {
	if len(message) < 21 || len(message) < 21+int(message[20]) {
		return nil, errNotEncrypted
	}
	salt, size, public := message[:16], binary.BigEndian.Uint32(message[16:20]), message[21:21+int(message[20])]
	record := message[21+len(public):]
	if len(record) > int(size) {
		return nil, errNotEncrypted
	}
	sender, err := ecdh.P256().NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	secret, err := browser.ECDH(sender)
	if err != nil {
		return nil, err
	}
	derive := func(secret, salt []byte, info string, length int) []byte {
		if err != nil {
			return nil
		}
		var out []byte
		out, err = hkdf.Key(sha256.New, secret, salt, info, length)
		return out
	}
	ikm := derive(secret, auth, "WebPush: info\x00"+string(browser.PublicKey().Bytes())+string(public), 32)
	key := derive(ikm, salt, "Content-Encoding: aes128gcm\x00", 16)
	nonce := derive(ikm, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	padded, err := gcm.Open(nil, nonce, record, nil)
	if err != nil {
		return nil, err
	}
	plaintext, ok := bytes.CutSuffix(bytes.TrimRight(padded, "\x00"), []byte{2})
	if !ok {
		return nil, errNotEncrypted
	}
	return plaintext, nil
}
