package fcm

import (
	"strconv"
	"time"

	"github.com/allsparkrt/allspark/push"
)

// apple is the API's ApnsConfig: what FCM hands to Apple for an app on an Apple
// device. The data of the message it puts beside aps itself.
type apple struct {
	Headers map[string]string `json:"headers"`
	Payload applePayload      `json:"payload"`
}

type applePayload struct {
	APS aps `json:"aps"`
}

// aps is Apple's part of a notification ("Generating a remote notification").
type aps struct {
	Alert    *appleAlert `json:"alert,omitempty"`
	Badge    *int        `json:"badge,omitempty"`
	Sound    string      `json:"sound,omitempty"`
	Category string      `json:"category,omitempty"`
	Thread   string      `json:"thread-id,omitempty"`
	Mutable  int         `json:"mutable-content,omitempty"`
	Content  int         `json:"content-available,omitempty"`
}

type appleAlert struct {
	Title        string   `json:"title,omitempty"`
	TitleLocKey  string   `json:"title-loc-key,omitempty"`
	TitleLocArgs []string `json:"title-loc-args,omitempty"`
	Body         string   `json:"body,omitempty"`
	LocKey       string   `json:"loc-key,omitempty"`
	LocArgs      []string `json:"loc-args,omitempty"`
}

// forApple says what package apns would say.
func forApple(n push.Notification, now time.Time) apple {
	silent := n.Silent || n.Dismiss
	a := apple{Headers: map[string]string{"apns-push-type": "alert", "apns-priority": "5"}}
	if silent && n.Badge == nil { // a badge is something shown: Apple takes none in the background
		a.Headers["apns-push-type"] = "background"
	}
	if n.Urgent && !silent {
		a.Headers["apns-priority"] = "10"
	}
	if n.CollapseID != "" && !n.Dismiss {
		a.Headers["apns-collapse-id"] = n.CollapseID
	}
	if !n.Expires.IsZero() {
		a.Headers["apns-expiration"] = strconv.FormatInt(min(n.Expires.Unix(), now.Add(maxTTL).Unix()), 10)
	}
	s := &a.Payload.APS
	if n.Badge != nil {
		badge := max(*n.Badge, 0)
		s.Badge = &badge
	}
	if silent {
		s.Content = 1
		return a
	}
	s.Alert, s.Sound, s.Category, s.Thread = alert(n), n.Sound, n.Category, n.CollapseID
	if n.Mutable {
		s.Mutable = 1
	}
	return a
}

// alert returns nil when there is nothing to read.
func alert(n push.Notification) *appleAlert {
	var a appleAlert
	if n.TitleKey != "" {
		a.TitleLocKey, a.TitleLocArgs = n.TitleKey, n.TitleArgs
	} else {
		a.Title = n.Title
	}
	if n.BodyKey != "" {
		a.LocKey, a.LocArgs = n.BodyKey, n.BodyArgs
	} else {
		a.Body = n.Body
	}
	if a.Title == "" && a.TitleLocKey == "" && a.Body == "" && a.LocKey == "" {
		return nil
	}
	return &a
}
