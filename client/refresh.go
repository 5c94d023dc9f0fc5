package client

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// renewal is a fresh auth key on its way to the server, which has said that the
// connection is about to end with the one before.
type renewal struct {
	id    string // of the frame, by which a refusal is known; "" none is under way
	frame []byte // to be written; nil when it has been
}

// renew asks the user for a fresh auth key, beside the reader, and has it
// written. at is when the connection ends without.
func (l *link) renew(at time.Time) {
	c := l.c
	if c.opts.oneKey {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.renewal.id != "" {
		return
	}
	id := rand.Text()
	l.renewal = renewal{id: id}
	l.beside.Go(func() {
		ctx, cancel := context.WithDeadline(l.ctx, at)
		defer cancel()
		key, err := c.opts.NewAuthKey(ctx)
		if err != nil {
			c.opts.Logger.Warn("no fresh auth key", "error", err)
			l.renewed(id)
			return
		}
		frame := envelope.Control{Control: envelope.ControlRefresh, ID: id, AuthKey: key}
		c.mu.Lock()
		l.renewal.frame = frame.AppendJSON(nil)
		c.mu.Unlock()
		signal(c.wake)
	})
}

// renewed notes the answer to a frame of renew, and reports whether it is one.
func (l *link) renewed(id string) bool {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if id == "" || id != l.renewal.id {
		return false
	}
	l.renewal = renewal{}
	return true
}

// takeRenewal returns the frame that is to be written, once; under mu of the client.
func (l *link) takeRenewal() []byte {
	frame := l.renewal.frame
	l.renewal.frame = nil
	return frame
}
