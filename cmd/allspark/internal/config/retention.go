package config

import (
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// hookEvents is how many events are kept in each of their partitions. Twice as
// many may stand there until retention has taken the oldest.
const hookEvents = 100_000

// limited is a key that holds limits of one kind of log.
type limited struct {
	key  string
	text string
	kind envelope.Kind
}

func (c *Config) keeps() []limited {
	return []limited{
		{"keep_device", c.KeepDevice, envelope.KindNode},
		{"keep_user", c.KeepUser, envelope.KindClient},
		{"keep_session", c.KeepSession, envelope.KindSession},
	}
}

func (c *Config) quotas() []limited {
	return []limited{
		{"quota_device", c.QuotaDevice, envelope.KindNode},
		{"quota_user", c.QuotaUser, envelope.KindClient},
		{"quota_session", c.QuotaSession, envelope.KindSession},
	}
}

// Retention returns what is kept. The configuration has been checked.
func (c *Config) Retention() inbox.Retention {
	r := inbox.Retention{Keep: make(map[envelope.Kind]inbox.Limits), Dedupe: c.DedupeWindow}
	for _, k := range c.keeps() {
		r.Keep[k.kind], _ = inbox.ParseLimits(k.text)
	}
	r.Keep[envelope.KindHook] = inbox.Limits{Age: c.HookKeep, Entries: hookEvents}
	return r
}

// Quotas returns what may stand in a log. The configuration has been checked.
func (c *Config) Quotas() inbox.Quotas {
	quotas := inbox.Quotas{envelope.KindHook: {Entries: 2 * hookEvents}}
	for _, q := range c.quotas() {
		if limits, _ := inbox.ParseLimits(q.text); limits.Entries > 0 || limits.Bytes > 0 {
			quotas[q.kind] = inbox.Quota{Entries: limits.Entries, Bytes: limits.Bytes}
		}
	}
	return quotas
}

func (l *Loaded) checkRetention() {
	c := &l.Config
	for _, k := range c.keeps() {
		limits, err := inbox.ParseLimits(k.text)
		switch {
		case err != nil:
			l.problem(k.key, "%v", err)
		case limits.Acknowledged > 0 && k.kind != envelope.KindNode:
			l.problem(k.key, "acknowledged is for devices: a log with several readers has no such moment")
		}
	}
	for _, q := range c.quotas() {
		limits, err := inbox.ParseLimits(q.text)
		switch {
		case err != nil:
			l.problem(q.key, "%v", err)
		case limits.Age > 0 || limits.Acknowledged > 0:
			l.problem(q.key, "a quota has entries and bytes")
		// The last entry of a log always stays, so with less it would stay full.
		case limits.Entries == 1, limits.Bytes > 0 && limits.Bytes < 3*int64(c.MaxFrameBytes):
			l.problem(q.key, "must have room for two entries and for three times max_frame_bytes")
		}
	}
	if c.DedupeWindow < time.Hour || c.DedupeWindow > 10*365*24*time.Hour {
		l.problem("dedupe_window", "must be from 1h to ten years")
	}
}
