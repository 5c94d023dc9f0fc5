package webpush

import (
	"encoding/json"

	"github.com/allsparkrt/allspark/push"
)

// Message is what a service worker gets. Of a title or body there is either
// the text or a key that the app translates, with arguments.
type Message struct {
	ID        string            `json:"id,omitempty"` // the same for all attempts
	Tag       string            `json:"tag,omitempty"`
	Silent    bool              `json:"silent,omitempty"`  // nothing to show
	Dismiss   bool              `json:"dismiss,omitempty"` // close what is shown under Tag
	Title     string            `json:"title,omitempty"`
	TitleKey  string            `json:"title_key,omitempty"`
	TitleArgs []string          `json:"title_args,omitempty"`
	Body      string            `json:"body,omitempty"`
	BodyKey   string            `json:"body_key,omitempty"`
	BodyArgs  []string          `json:"body_args,omitempty"`
	Sound     string            `json:"sound,omitempty"`
	Badge     *int              `json:"badge,omitempty"` // unread messages
	Data      map[string]string `json:"data,omitempty"`
}

// encode returns the JSON of a notification's Message.
func encode(n push.Notification) ([]byte, error) {
	m := Message{
		ID: n.ID, Tag: n.CollapseID, Silent: n.Silent || n.Dismiss, Dismiss: n.Dismiss,
		Badge: n.Badge, Data: n.Data,
	}
	if m.Silent {
		return json.Marshal(m)
	}
	m.Sound = n.Sound
	if n.TitleKey != "" {
		m.TitleKey, m.TitleArgs = n.TitleKey, n.TitleArgs
	} else {
		m.Title = n.Title
	}
	if n.BodyKey != "" {
		m.BodyKey, m.BodyArgs = n.BodyKey, n.BodyArgs
	} else {
		m.Body = n.Body
	}
	return json.Marshal(m)
}

// newBody returns the encrypted message for a subscription; [push.ErrTooLarge]
// when its data alone are too much.
func newBody(to push.Token, n push.Notification) ([]byte, error) {
	plaintext, err := push.Fit(n, maxPlaintext, encode)
	if err != nil {
		return nil, err
	}
	return encrypt(to.P256DH, to.Auth, plaintext)
}
