package fcm

import (
	"encoding/json"
	"maps"
	"strconv"
	"time"

	"github.com/allsparkrt/allspark/push"
)

const (
	// maxMessage is what FCM takes as notification and data, in bytes, and Apple
	// as what is made of them.
	maxMessage = 4096
	maxTTL     = 4 * 7 * 24 * time.Hour
)

// request and what is in it are the API's v1 Message, as far as it is used.
type request struct {
	Message message `json:"message"`
}

// message has what is for each kind of device: which kind a token is of, only
// FCM knows.
type message struct {
	Token   string            `json:"token"`
	Data    map[string]string `json:"data,omitempty"`
	Android json.RawMessage   `json:"android"`
	Apple   json.RawMessage   `json:"apns"`
}

type android struct {
	CollapseKey  string        `json:"collapse_key,omitempty"`
	Priority     string        `json:"priority"`
	TTL          string        `json:"ttl,omitempty"`
	Notification *notification `json:"notification,omitempty"`
}

type notification struct {
	Title        string   `json:"title,omitempty"`
	TitleLocKey  string   `json:"title_loc_key,omitempty"`
	TitleLocArgs []string `json:"title_loc_args,omitempty"`
	Body         string   `json:"body,omitempty"`
	BodyLocKey   string   `json:"body_loc_key,omitempty"`
	BodyLocArgs  []string `json:"body_loc_args,omitempty"`
	Sound        string   `json:"sound,omitempty"`
	Tag          string   `json:"tag,omitempty"`
	Channel      string   `json:"channel_id,omitempty"`
	Count        *int     `json:"notification_count,omitempty"`
}

// newMessage returns the body of the request; [push.ErrTooLarge] when its data
// alone are too much.
func newMessage(to push.Token, n push.Notification, now time.Time) ([]byte, error) {
	m := message{Token: to.Value, Data: data(n)}
	both, err := json.Marshal(m.Data)
	if err != nil {
		return nil, err
	}
	left := maxMessage - len(both)
	if m.Android, err = push.Fit(n, left, func(n push.Notification) ([]byte, error) { return json.Marshal(forAndroid(n, now)) }); err != nil {
		return nil, err
	}
	if m.Apple, err = push.Fit(n, left, func(n push.Notification) ([]byte, error) { return json.Marshal(forApple(n, now)) }); err != nil {
		return nil, err
	}
	return json.Marshal(request{m})
}

func data(n push.Notification) map[string]string {
	if !n.Dismiss {
		return n.Data
	}
	d := map[string]string{}
	maps.Copy(d, n.Data)
	d["dismiss"] = n.CollapseID
	return d
}

func forAndroid(n push.Notification, now time.Time) android {
	a := android{CollapseKey: n.CollapseID, Priority: "NORMAL", TTL: ttl(n.Expires, now)}
	if n.Urgent {
		a.Priority = "HIGH"
	}
	if !n.Silent && !n.Dismiss {
		a.Notification = shown(n)
	}
	return a
}

func shown(n push.Notification) *notification {
	s := &notification{Sound: n.Sound, Tag: n.CollapseID, Channel: n.Channel, Count: n.Badge}
	if n.TitleKey != "" {
		s.TitleLocKey, s.TitleLocArgs = n.TitleKey, n.TitleArgs
	} else {
		s.Title = n.Title
	}
	if n.BodyKey != "" {
		s.BodyLocKey, s.BodyLocArgs = n.BodyKey, n.BodyArgs
	} else {
		s.Body = n.Body
	}
	return s
}

// ttl returns the seconds that are left, as the JSON form of a Duration; "" for
// FCM's default, which is the most it takes.
func ttl(expires, now time.Time) string {
	if expires.IsZero() {
		return ""
	}
	left := min(max(expires.Sub(now), 0), maxTTL)
	return strconv.FormatInt(int64((left+time.Second-1)/time.Second), 10) + "s"
}
