package config

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/allsparkrt/allspark/push"
)

// PushText is what notifications say in languages that have words of their own,
// by the names of the languages (BCP 47). Only a file can give it.
type PushText map[string]PushWords

// PushWords are the settings push_title and so on for one language.
type PushWords struct {
	TitleKey string `name:"title-key"`
	BodyKey  string `name:"body-key"`
	Title    string `name:"title"`
	Body     string `name:"body"`
}

// Words returns what package push takes.
func (t PushText) Words() map[string]push.Words {
	words := make(map[string]push.Words, len(t))
	for locale, w := range t {
		words[locale] = push.Words(w)
	}
	return words
}

// readPushText reads the words of each language.
func (l *Loaded) readPushText(path string, s setting, source string, languages *yaml.Node) {
	if languages.Kind != yaml.MappingNode {
		l.take(s, source, fmt.Errorf("must hold languages with words"))
		return
	}
	l.take(s, source, nil)
	l.PushText = make(PushText, len(languages.Content)/2)
	for i := 0; i < len(languages.Content); i += 2 {
		name, words := languages.Content[i], languages.Content[i+1]
		key, at := s.key+"."+name.Value, fmt.Sprintf("%s:%d", path, name.Line)
		same := func(other string) bool { return strings.EqualFold(other, name.Value) }
		switch {
		case words.Kind != yaml.MappingNode:
			l.take(setting{key: key}, at, fmt.Errorf("must hold title, body, title_key or body_key"))
		case slices.ContainsFunc(slices.Collect(maps.Keys(l.PushText)), same):
			l.take(setting{key: key}, at, errTwice)
		default:
			var w PushWords
			l.readMapping(path, key+".", words, rowsOf(&w))
			l.sources[key] = at
			l.PushText[name.Value] = w
		}
	}
}

// checkPush notes problems of push notifications; what is in the key files is
// found when they are read.
func (l *Loaded) checkPush() {
	c := &l.Config
	if c.PushAfter < time.Second || c.PushAfter > time.Hour {
		l.problem("push_after", "must be from 1s to 1h")
	}
	if c.PushInterval < time.Second || c.PushInterval > 24*time.Hour {
		l.problem("push_interval", "must be from 1s to 24h")
	}
	for _, locale := range slices.Sorted(maps.Keys(c.PushText)) {
		if !push.Locale(locale) {
			l.problem("push_text."+locale, "is not the name of a language such as de or pt-BR")
		}
	}
	l.together("apns_key_file", c.APNsKeyFile, "apns_key_id", c.APNsKeyID, "apns_team_id", c.APNsTeamID)
	if c.APNsKeyFile != "" && c.APNsCert != "" {
		l.problem("apns_cert", "either apns_key_file or apns_cert, not both")
	}
	l.together("vapid_key_file", c.VAPIDKeyFile, "vapid_subject", c.VAPIDSubject)
	l.serviceURL("apns_url", c.APNsURL)
	l.serviceURL("apns_sandbox_url", c.APNsSandboxURL)
	l.serviceURL("fcm_url", c.FCMURL)
}

// serviceURL notes a problem unless a push service can be there.
func (l *Loaded) serviceURL(key, text string) {
	if u, err := url.Parse(text); text != "" && (err != nil || u.Host == "" || text != "https://"+u.Host) {
		l.problem(key, "must be a URL of the form https://HOST[:PORT]")
	}
}
