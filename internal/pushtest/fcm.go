package pushtest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// FCM is Firebase Cloud Messaging for one project, and next to it the endpoint
// that grants access tokens.
type FCM struct {
	*Service
	Grants      *Service // the token endpoint
	Credentials []byte   // a service account's key file

	mu      sync.Mutex
	life    time.Duration        // guarded by mu: of tokens to come
	granted map[string]time.Time // guarded by mu: until when
}

// FCMError is Google's body of a refusal; code is FCM's own, or "".
func FCMError(status int, canonical, code string) Answer {
	details := ""
	if code != "" {
		details = fmt.Sprintf(`,"details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":%q}]`, code)
	}
	return Answer{Status: status, Body: fmt.Sprintf(`{"error":{"code":%d,"message":"said by the test","status":%q%s}}`, status, canonical, details)}
}

// FCMField is the refusal of one field of the request.
func FCMField(field string) Answer {
	return Answer{Status: 400, Body: fmt.Sprintf(`{"error":{"code":400,"message":"Request contains an invalid argument.","status":"INVALID_ARGUMENT","details":[`+
		`{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"INVALID_ARGUMENT"},`+
		`{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":%q,"description":"said by the test"}]}]}}`, field)}
}

// NewFCM starts one, with access tokens that live an hour.
func NewFCM(t testing.TB) *FCM {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	const email = "push@project-1.iam.gserviceaccount.com"
	f := &FCM{life: time.Hour, granted: map[string]time.Time{}}
	ca := newAuthority(t) // of both, so that one pool serves
	f.Service = start(t, ca, false, f.check, Answer{Status: 200, Body: `{"name":"projects/project-1/messages/1"}`})
	grants := &grantor{fcm: f, key: &key.PublicKey, email: email}
	f.Grants = start(t, ca, false, grants.check, Answer{})
	grants.audience = f.Grants.URL + "/token"
	f.Credentials, err = json.Marshal(map[string]string{
		"type":           "service_account",
		"project_id":     "project-1",
		"private_key_id": "key-1",
		"private_key":    string(KeyPEM(t, key)),
		"client_email":   email,
		"token_uri":      grants.audience,
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Live sets how long access tokens to come live.
func (f *FCM) Live(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.life = d
}

// Revoke makes all access tokens worthless.
func (f *FCM) Revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.granted)
}

var registrationToken = regexp.MustCompile(`^[A-Za-z0-9_:-]{20,}$`)

// check checks a request by the reference of projects.messages.send.
func (f *FCM) check(r *http.Request, body *[]byte) *Answer {
	refuse := func(a Answer) *Answer { return &a }
	access, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	f.mu.Lock()
	until := f.granted[access]
	f.mu.Unlock()
	if !ok || time.Now().After(until) {
		return refuse(FCMError(401, "UNAUTHENTICATED", ""))
	}
	if r.ProtoMajor != 2 || r.Method != http.MethodPost || r.URL.Path != "/v1/projects/project-1/messages:send" {
		return refuse(FCMError(404, "NOT_FOUND", ""))
	}
	var request struct {
		Message struct {
			Token   string            `json:"token"`
			Data    map[string]string `json:"data"`
			Android struct {
				CollapseKey  string          `json:"collapse_key"`
				Priority     string          `json:"priority"`
				TTL          string          `json:"ttl"`
				Notification json.RawMessage `json:"notification"`
			} `json:"android"`
			Apple fcmApple `json:"apns"`
		} `json:"message"`
	}
	decoder := json.NewDecoder(bytes.NewReader(*body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		return refuse(FCMField("message"))
	}
	m := request.Message
	if !registrationToken.MatchString(m.Token) {
		return refuse(FCMField("message.token"))
	}
	size, apple := len(m.Android.Notification), len(m.Apple.Payload)
	for key, value := range m.Data {
		size += len(key) + len(value)
		apple += len(key) + len(value)
		if key == "from" || key == "gcm" || strings.HasPrefix(key, "google") {
			return refuse(FCMField("message.data"))
		}
	}
	if size > 4096 || apple > 4096 {
		return refuse(FCMError(400, "INVALID_ARGUMENT", ""))
	}
	if p := m.Android.Priority; p != "" && p != "HIGH" && p != "NORMAL" {
		return refuse(FCMField("message.android.priority"))
	}
	if ttl := m.Android.TTL; ttl != "" {
		if d, err := time.ParseDuration(ttl); err != nil || !strings.HasSuffix(ttl, "s") || d < 0 || d > 28*24*time.Hour {
			return refuse(FCMField("message.android.ttl"))
		}
	}
	if field := m.Apple.malformed(); field != "" {
		return refuse(FCMField("message.apns." + field))
	}
	return nil
}

// fcmApple is ApnsConfig: header fields and the payload as Apple takes them.
type fcmApple struct {
	Headers map[string]string `json:"headers"`
	Payload json.RawMessage   `json:"payload"`
}

// malformed names what Apple would not take, or returns "".
func (a *fcmApple) malformed() string {
	if a.Payload == nil {
		return ""
	}
	var payload struct {
		APS map[string]any `json:"aps"`
	}
	if json.Unmarshal(a.Payload, &payload) != nil || payload.APS == nil {
		return "payload"
	}
	kind, priority := a.Headers["apns-push-type"], a.Headers["apns-priority"]
	_, expires := a.Headers["apns-expiration"]
	seconds, err := strconv.ParseInt(a.Headers["apns-expiration"], 10, 64)
	switch background := payload.APS["content-available"] != nil; {
	case kind != "alert" && kind != "background", kind == "background" && (!background || priority != "5" || len(payload.APS) != 1):
		return "headers.apns-push-type"
	case priority != "5" && priority != "10":
		return "headers.apns-priority"
	case len(a.Headers["apns-collapse-id"]) > 64:
		return "headers.apns-collapse-id"
	case expires && (err != nil || seconds < 0):
		return "headers.apns-expiration"
	}
	return ""
}

// grantor is the token endpoint.
type grantor struct {
	fcm      *FCM
	key      *rsa.PublicKey
	email    string
	audience string
}

// check grants a token for a good assertion (RFC 7523, section 3), unless the
// test has other answers ready.
func (g *grantor) check(r *http.Request, body *[]byte) *Answer {
	form, err := url.ParseQuery(string(*body))
	if err != nil || form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		return &Answer{Status: 400, Body: `{"error":"unsupported_grant_type"}`}
	}
	claims := jwt.MapClaims{}
	token, err := jwt.ParseWithClaims(form.Get("assertion"), claims, func(*jwt.Token) (any, error) { return g.key, nil },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer(g.email), jwt.WithAudience(g.audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if err != nil || token.Header["kid"] != "key-1" {
		return &Answer{Status: 400, Body: `{"error":"invalid_grant","error_description":"Invalid JWT Signature."}`}
	}
	if claims["scope"] != "https://www.googleapis.com/auth/firebase.messaging" {
		return &Answer{Status: 400, Body: `{"error":"invalid_scope"}`}
	}
	if g.fcm.Grants.scripted() {
		return nil
	}
	access := "ya29." + rand.Text()
	g.fcm.mu.Lock()
	life := g.fcm.life
	g.fcm.granted[access] = time.Now().Add(life)
	g.fcm.mu.Unlock()
	return &Answer{
		Status: 200,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   fmt.Sprintf(`{"access_token":%q,"expires_in":%d,"token_type":"Bearer"}`, access, int(life/time.Second)),
	}
}
