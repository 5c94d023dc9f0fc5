package server

import (
	"fmt"
	"os"

	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
	"github.com/allsparkrt/allspark/node"
	"github.com/allsparkrt/allspark/push"
	"github.com/allsparkrt/allspark/push/apns"
	"github.com/allsparkrt/allspark/push/fcm"
	"github.com/allsparkrt/allspark/push/webpush"
)

// pushServices are the push services that are configured.
type pushServices struct {
	senders map[push.Service]push.Sender
	key     string // of Web Push, for browsers to subscribe with; "" without it
	close   []func()
}

// newPushServices reads keys. It connects to nothing.
func newPushServices(c *config.Config) (_ *pushServices, err error) {
	p := &pushServices{senders: make(map[push.Service]push.Sender)}
	read := func(file string) []byte {
		if file == "" || err != nil {
			return nil
		}
		var content []byte
		content, err = os.ReadFile(file)
		return content
	}
	appleKey, appleCert := read(c.APNsKeyFile), read(c.APNsCert)
	google, vapid := read(c.FCMCredentials), read(c.VAPIDKeyFile)
	if err != nil {
		return nil, err
	}
	if appleKey != nil || appleCert != nil {
		s, err := apns.New(apns.Config{
			Key: appleKey, KeyID: c.APNsKeyID, TeamID: c.APNsTeamID, Certificate: appleCert, Password: c.APNsCertPassword,
			Production: c.APNsURL, Sandbox: c.APNsSandboxURL,
		})
		if err != nil {
			return nil, fmt.Errorf("push to Apple: %w", err)
		}
		p.senders[push.APNs], p.close = s, append(p.close, s.Close)
	}
	if google != nil {
		s, err := fcm.New(fcm.Config{Credentials: google, Endpoint: c.FCMURL})
		if err != nil {
			return nil, fmt.Errorf("fcm_credentials: %w", err)
		}
		p.senders[push.FCM], p.close = s, append(p.close, s.Close)
	}
	if vapid != nil {
		s, err := webpush.New(webpush.Config{Key: vapid, Subject: c.VAPIDSubject})
		if err != nil {
			return nil, fmt.Errorf("vapid_key_file: %w", err)
		}
		p.senders[push.WebPush], p.close, p.key = s, append(p.close, s.Close), s.PublicKey()
	}
	return p, nil
}

// config returns what a node needs to know of them.
func (p *pushServices) config(c *config.Config, store push.Store) node.Push {
	return node.Push{
		Store: store, Senders: p.senders, After: c.PushAfter, Interval: c.PushInterval,
		Text: push.Text{
			TitleKey: c.PushTitleKey, BodyKey: c.PushBodyKey, Title: c.PushTitle, Body: c.PushBody, In: c.PushText.Words(), Sound: c.PushSound,
			Category: c.PushCategory, Channel: c.PushChannel, Mutable: c.PushMutable, Silent: c.PushSilent, Content: c.PushContent,
		},
	}
}

// Close lets go of connections that are idle.
func (p *pushServices) Close() {
	for _, f := range p.close {
		f()
	}
}

// describePush has the counters of push notifications told.
func describePush(st *push.Stats, count func(name, help string, v uint64, labels ...string)) {
	if st == nil {
		return
	}
	count("push_sent_total", "Push notifications taken by a service.", st.Sent.Load())
	count("push_dismissed_total", "Of these, such that took one back.", st.Dismissed.Load())
	count("push_retried_total", "Attempts to push that failed and are repeated.", st.Retried.Load())
	count("push_tokens_gone_total", "Tokens that a service said are dead.", st.Gone.Load())
	count("push_failed_total", "Push notifications given up.", st.Failed.Load())
	count("push_errors_total", "Times that the store did not let push notifications be worked at.", st.Errors.Load())
	count("dropped_total", "Things dropped, by reason. What is durable is read from its log then.", st.Lost.Load(), "reason", "push_hint")
}
