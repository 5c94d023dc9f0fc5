package pushtest

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// APNs is Apple's service for one team, in one environment.
type APNs struct {
	*Service
	Key    []byte // the team's key, a .p8 file
	KeyID  string
	TeamID string
}

// APNsReason is Apple's body of a refusal.
func APNsReason(status int, reason string) Answer {
	return Answer{Status: status, Header: http.Header{"Apns-Id": {"00000000-0000-0000-0000-000000000000"}}, Body: fmt.Sprintf(`{"reason":%q}`, reason)}
}

// NewAPNs starts one. It takes tokens of its team, or certificates of its authority.
func NewAPNs(t testing.TB) *APNs {
	t.Helper()
	key := newKey(t)
	a := &APNs{Key: KeyPEM(t, key), KeyID: "ABC123DEFG", TeamID: "DEF123GHIJ"}
	a.Service = start(t, newAuthority(t), true, func(r *http.Request, body *[]byte) *Answer {
		if status, reason := a.refuse(r, *body, &key.PublicKey); status != 0 {
			answer := APNsReason(status, reason)
			return &answer
		}
		return nil
	}, Answer{Status: http.StatusOK})
	return a
}

var (
	devicePath = regexp.MustCompile(`^/3/device/([0-9a-f]*)$`)
	uuid       = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
)

// refuse checks a request by "Sending notification requests to APNs".
func (a *APNs) refuse(r *http.Request, body []byte, key *ecdsa.PublicKey) (status int, reason string) {
	path := devicePath.FindStringSubmatch(r.URL.Path)
	switch {
	case r.ProtoMajor != 2:
		return http.StatusHTTPVersionNotSupported, "not HTTP/2"
	case r.Method != http.MethodPost:
		return 405, "MethodNotAllowed"
	case path == nil:
		return 404, "BadPath"
	case path[1] == "":
		return 400, "MissingDeviceToken"
	case len(path[1]) < 64 || len(path[1])%2 != 0:
		return 400, "BadDeviceToken"
	}
	if reason := a.refuseProvider(r, key); reason != "" {
		return 403, reason
	}
	for name, values := range r.Header {
		if len(values) > 1 {
			return 400, "DuplicateHeaders" + name
		}
	}
	if reason := refuseHeaders(r.Header); reason != "" {
		return 400, reason
	}
	return refusePayload(r.Header.Get("Apns-Push-Type"), body)
}

func (a *APNs) refuseProvider(r *http.Request, key *ecdsa.PublicKey) string {
	if len(r.TLS.PeerCertificates) > 0 {
		return ""
	}
	var bearer string
	if _, err := fmt.Sscanf(r.Header.Get("Authorization"), "bearer %s", &bearer); err != nil {
		return "MissingProviderToken"
	}
	token, err := jwt.Parse(bearer, func(*jwt.Token) (any, error) { return key, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(a.TeamID), jwt.WithIssuedAt())
	if err != nil || token.Header["kid"] != a.KeyID {
		return "InvalidProviderToken"
	}
	issued, err := token.Claims.GetIssuedAt()
	switch {
	case err != nil || issued == nil:
		return "InvalidProviderToken"
	case time.Since(issued.Time) > time.Hour:
		return "ExpiredProviderToken"
	}
	return ""
}

func refuseHeaders(h http.Header) string {
	kind, priority := h.Get("Apns-Push-Type"), h.Get("Apns-Priority")
	id, expiration := h.Get("Apns-Id"), h.Get("Apns-Expiration")
	switch {
	case h.Get("Apns-Topic") == "":
		return "MissingTopic"
	case kind != "alert" && kind != "background":
		return "InvalidPushType"
	case priority != "" && priority != "10" && priority != "5" && priority != "1", kind == "background" && priority == "10":
		return "BadPriority"
	case len(h.Get("Apns-Collapse-Id")) > 64:
		return "BadCollapseId"
	case id != "" && !uuid.MatchString(id):
		return "BadMessageId"
	}
	if _, err := strconv.ParseUint(expiration, 10, 63); expiration != "" && err != nil {
		return "BadExpirationDate"
	}
	return ""
}

func refusePayload(kind string, body []byte) (status int, reason string) {
	if len(body) > 4096 {
		return 413, "PayloadTooLarge"
	}
	var payload struct {
		APS map[string]any `json:"aps"`
	}
	if err := json.Unmarshal(body, &payload); err != nil || payload.APS == nil {
		return 400, "PayloadEmpty"
	}
	_, alert := payload.APS["alert"]
	_, badge := payload.APS["badge"]
	_, sound := payload.APS["sound"]
	if kind == "background" && (alert || badge || sound || payload.APS["content-available"] != 1.0) {
		return 400, "InvalidPushType"
	}
	return 0, ""
}
