package config

import (
	"slices"
	"time"

	"github.com/allsparkrt/allspark/hook/ask"
)

// maxAuthorizeTimeout keeps whoever asks from waiting longer than clients do.
const maxAuthorizeTimeout = 10 * time.Second

func (l *Loaded) checkAuthorize() {
	c := &l.Config
	for _, action := range c.AuthorizeFor {
		if !slices.Contains(ask.Actions(), ask.Action(action)) {
			l.problem("authorize_for", "%q is none of connect, join and send", action)
		}
	}
	if c.AuthorizeTimeout < 100*time.Millisecond || c.AuthorizeTimeout > maxAuthorizeTimeout {
		l.problem("authorize_timeout", "must be from 100ms to %v", maxAuthorizeTimeout)
	}
	if c.AuthorizeCache < 0 || c.AuthorizeCache > 24*time.Hour {
		l.problem("authorize_cache", "must be from 0s to 24h")
	}
	switch c.AuthorizeFailure {
	case "deny", "allow":
	default:
		l.problem("authorize_failure", "%q is neither deny nor allow", c.AuthorizeFailure)
	}
	if c.AuthorizeURL == "" {
		return
	}
	l.webURL("authorize_url", c.AuthorizeURL)
	if len(c.AuthorizeFor) == 0 {
		l.problem("authorize_for", "needed with authorize_url: what is asked about")
	}
	if len(c.AuthorizeSecret) < minSecret && (c.AuthorizeSecret != "" || c.AuthorizeSecretFile == "") {
		l.problem("authorize_secret", "must have %d characters or more", minSecret)
	}
	if c.AuthorizePreviousSecret != "" && len(c.AuthorizePreviousSecret) < minSecret {
		l.problem("authorize_previous_secret", "must have %d characters or more", minSecret)
	}
}

// Authorize returns who is asked what clients may do.
func (c *Config) Authorize() ask.Config {
	about := make([]ask.Action, len(c.AuthorizeFor))
	for i, action := range c.AuthorizeFor {
		about[i] = ask.Action(action)
	}
	secrets := [][]byte{[]byte(c.AuthorizeSecret)}
	if c.AuthorizePreviousSecret != "" {
		secrets = append(secrets, []byte(c.AuthorizePreviousSecret))
	}
	return ask.Config{
		URL: c.AuthorizeURL, Secrets: secrets, For: about, Timeout: c.AuthorizeTimeout, Keep: c.AuthorizeCache,
		FailOpen: c.AuthorizeFailure == "allow",
	}
}
