package apns

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/payload"

	"github.com/allsparkrt/allspark/push"
)

// maxPayload is what Apple takes, in bytes.
const maxPayload = 4096

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`)

// newMessage returns the request for a notification; [push.ErrTooLarge] when
// its data alone are too much.
func newMessage(to push.Token, n push.Notification) (*apns2.Notification, error) {
	if n.Dismiss {
		n.Silent = true
	}
	body, err := push.Fit(n, maxPayload, encode)
	if err != nil {
		return nil, err
	}
	m := &apns2.Notification{
		ApnsID:      messageID(n.ID),
		DeviceToken: to.Value,
		Topic:       to.App,
		Expiration:  n.Expires,
		Priority:    apns2.PriorityLow,
		Payload:     body,
		PushType:    apns2.PushTypeAlert,
	}
	if n.Silent && n.Badge == nil { // a badge is something shown: Apple takes none in the background
		m.PushType = apns2.PushTypeBackground
	}
	if n.Urgent && !n.Silent {
		m.Priority = apns2.PriorityHigh
	}
	if !n.Dismiss {
		m.CollapseID = n.CollapseID
	}
	return m, nil
}

// encode returns the payload. Data cannot take the place of Apple's part.
func encode(n push.Notification) ([]byte, error) {
	p := payload.NewPayload()
	for key, value := range n.Data {
		if key != "aps" && key != "dismiss" {
			p.Custom(key, value)
		}
	}
	if n.Badge != nil {
		p.Badge(max(*n.Badge, 0))
	}
	if n.Silent {
		p.ContentAvailable()
		if n.Dismiss {
			p.Custom("dismiss", n.CollapseID)
		}
		return json.Marshal(p)
	}
	title(p, n)
	text(p, n)
	if n.Sound != "" {
		p.Sound(n.Sound)
	}
	if n.Category != "" {
		p.Category(n.Category)
	}
	if n.Mutable {
		p.MutableContent()
	}
	if n.CollapseID != "" {
		p.ThreadID(n.CollapseID)
	}
	return json.Marshal(p)
}

func title(p *payload.Payload, n push.Notification) {
	if n.TitleKey == "" {
		if n.Title != "" {
			p.AlertTitle(n.Title)
		}
		return
	}
	p.AlertTitleLocKey(n.TitleKey)
	if len(n.TitleArgs) > 0 {
		p.AlertTitleLocArgs(slices.Clone(n.TitleArgs))
	}
}

func text(p *payload.Payload, n push.Notification) {
	if n.BodyKey == "" {
		if n.Body != "" {
			p.AlertBody(n.Body)
		}
		return
	}
	p.AlertLocKey(n.BodyKey)
	if len(n.BodyArgs) > 0 {
		p.AlertLocArgs(slices.Clone(n.BodyArgs))
	}
}

// messageID returns the UUID by which Apple calls a message: the id itself, or
// one made of it (RFC 9562, version 8), the same for all attempts.
func messageID(id string) string {
	if id == "" || uuidForm.MatchString(id) {
		return id
	}
	u := sha256.Sum256([]byte(id))
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:16])
}
