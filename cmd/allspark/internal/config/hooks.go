package config

import (
	"fmt"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/hook"
)

// maxHookReceivers bounds the receivers of events: each looks at each event.
const maxHookReceivers = 16

// HookReceiver is somewhere that events are sent to. Its secrets are filled from
// their files.
type HookReceiver struct {
	Name               string   `name:"name"`
	URL                string   `name:"url" url:""`
	Secret             string   `name:"secret" secret:""`
	SecretFile         string   `name:"secret-file" fills:"secret"`
	PreviousSecret     string   `name:"previous-secret" secret:""`
	PreviousSecretFile string   `name:"previous-secret-file" fills:"previous_secret"`
	Types              []string `name:"types"` // of events; none: all
}

func (r *HookReceiver) receiver() hook.Receiver {
	to := hook.Receiver{Name: r.Name, URL: r.URL, Secrets: [][]byte{[]byte(r.Secret)}}
	if r.PreviousSecret != "" {
		to.Secrets = append(to.Secrets, []byte(r.PreviousSecret))
	}
	for _, t := range r.Types {
		to.Types = append(to.Types, hook.Type(t))
	}
	return to
}

// defaultReceiver is the one of HookURL.
func (c *Config) defaultReceiver() HookReceiver {
	return HookReceiver{
		Name: hook.DefaultReceiver, URL: c.HookURL, Secret: c.HookSecret, SecretFile: c.HookSecretFile,
		PreviousSecret: c.HookPreviousSecret, PreviousSecretFile: c.HookPreviousSecretFile,
	}
}

// HookReceivers returns whom events are sent to: HookURL, and Hooks.
func (c *Config) HookReceivers() []hook.Receiver {
	var all []hook.Receiver
	if c.HookURL != "" {
		r := c.defaultReceiver()
		all = append(all, r.receiver())
	}
	for i := range c.Hooks {
		all = append(all, c.Hooks[i].receiver())
	}
	return all
}

func (l *Loaded) checkHooks() {
	c := &l.Config
	if c.HookTimeout < 100*time.Millisecond || c.HookTimeout > time.Minute {
		l.problem("hook_timeout", "must be from 100ms to 1m")
	}
	if c.HookKeep < time.Hour || c.HookKeep > 90*24*time.Hour {
		l.problem("hook_keep", "must be from 1h to 2160h")
	}
	names := make(map[string]bool)
	if c.HookURL != "" {
		names[hook.DefaultReceiver] = true
		l.checkReceiver("hook_", c.defaultReceiver())
	}
	if len(c.Hooks) > maxHookReceivers {
		l.problem("hooks", "at most %d", maxHookReceivers)
	}
	for i, r := range c.Hooks {
		prefix := fmt.Sprintf("hooks[%d].", i)
		l.id(prefix+"name", r.Name)
		if names[r.Name] {
			l.problem(prefix+"name", "there is another receiver of that name")
		}
		names[r.Name] = true
		l.checkReceiver(prefix, r)
	}
}

func (l *Loaded) checkReceiver(prefix string, r HookReceiver) {
	l.webURL(prefix+"url", r.URL)
	if len(r.Secret) < minSecret && (r.Secret != "" || r.SecretFile == "") {
		l.problem(prefix+"secret", "must have %d characters or more", minSecret)
	}
	if r.PreviousSecret != "" && len(r.PreviousSecret) < minSecret {
		l.problem(prefix+"previous_secret", "must have %d characters or more", minSecret)
	}
	for _, t := range r.Types {
		if !slices.Contains(hook.Types(), hook.Type(t)) {
			l.problem(prefix+"types", "%q is none of %q", t, hook.Types())
		}
	}
}
