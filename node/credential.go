package node

import (
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/hook/ask"
)

// refreshWithin bounds the check of another credential.
const refreshWithin = 10 * time.Second

var (
	errNoRefresh      = envelope.Errorf(envelope.BadRequest, "this connection lives by the credential that it has")
	errRefreshing     = envelope.BusyError(1000, "the credential before is still being checked", nil)
	errRefreshOther   = envelope.Errorf(envelope.Forbidden, "the auth key is not one of this device")
	errRefreshTooLate = envelope.Errorf(envelope.GoingAway, "the connection is about to end")
)

// credential is what a connection lives by, until its client gives it another
// one of the same device. It is never changed.
type credential struct {
	gateway.Credential
	rights  *envelope.Rights
	expires time.Time // zero: never
}

// caller returns who speaks, with the rights of the connection's credential now.
func (c *conn) caller() envelope.Principal {
	who := c.who
	who.Rights = c.credential.Load().rights
	return who
}

// credentialOf returns how a connection lives by a credential.
func credentialOf(of gateway.Verified) *credential {
	return &credential{Credential: of.Credential, rights: of.Who.Rights, expires: of.Expires}
}

// verified returns the credential in the words of package auth.
func (c *conn) verified() auth.Verified {
	of := c.credential.Load()
	return auth.Verified{Principal: c.who, JTI: of.JTI, Issued: of.Issued, Expires: of.expires}
}

// setExpiry sets when the credential ends and its client is told; under mu. It
// is called again when the connection is open, because nothing comes before the
// answer to hello.
func (c *conn) setExpiry() {
	c.due.warn, c.due.end = never, never
	if at := c.credential.Load().expires; !at.IsZero() && !c.over {
		now, left := c.n.alarms.now(), time.Until(at)
		c.due.end = now + left
		own := c.follows.Get(c.who.Node.Address())
		// Told once for each end: a client whose key is no newer would be asked over and over.
		if c.verify != nil && own != nil && own.started && at.UnixMilli() > c.due.warned {
			c.due.warn = c.due.end - min(c.n.timing.Expiring, left/2)
		}
	}
	c.n.alarms.set(c, c.due.next())
}

// expire says goodbye, unless the wall clock says by now that there is time; under mu.
func (c *conn) expire() {
	if time.Until(c.credential.Load().expires) > 0 {
		c.setExpiry()
		return
	}
	c.part(envelope.Unauthorized, "the credential has expired")
}

// warn tells the client that the credential is about to end; under mu.
func (c *conn) warn() {
	if c.over || c.goodbye != nil {
		return
	}
	at := c.credential.Load().expires
	c.due.warned = at.UnixMilli()
	c.lane.push(c.codec.Append(nil, gateway.Expiring{At: at}))
	c.writeSoon()
}

// refresh has the connection live by another credential. It is checked beside
// the read loop, one at a time: the key that it is signed with may have to be
// fetched.
func (c *conn) refresh(cmd gateway.Refresh) error {
	switch {
	case c.verify == nil:
		return errNoRefresh
	case !c.refreshing.CompareAndSwap(false, true):
		return errRefreshing
	}
	c.spawn(func() {
		next, err := c.check(cmd.AuthKey)
		if err == nil {
			err = c.adopt(next)
		}
		c.refreshing.Store(false)
		switch {
		case err != nil:
			c.refuse(cmd.ID, err)
		case !c.n.revoker.check(c): // again, after adopt: what was revoked meanwhile
			c.reply(gateway.Refreshed{ID: cmd.ID, Expires: next.expires})
			c.dropTopics()
		}
	})
	return nil
}

// check checks an auth key, which must be one of the same device and user.
func (c *conn) check(authKey string) (*credential, error) {
	ctx, cancel := c.ctx.within(refreshWithin)
	defer cancel()
	of, err := c.verify(ctx, authKey)
	switch {
	case err != nil:
		return nil, err
	case !of.Who.Same(c.who):
		return nil, errRefreshOther
	}
	if err := c.ask(ask.Question{Action: ask.Connect}); err != nil { // else it would never be asked about again
		return nil, err
	}
	return credentialOf(of), nil
}

// adopt has the connection live by a credential from now on.
func (c *conn) adopt(next *credential) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.goodbye != nil || c.revoked.Load() {
		return errRefreshTooLate
	}
	c.credential.Store(next)
	c.setExpiry()
	return nil
}

// dropTopics stops following topics to which there is no right any more. Who
// begins to follow one looks at the rights while it has the turn, as this does.
func (c *conn) dropTopics() {
	var lost []envelope.SessionID
	rights := c.credential.Load().rights
	c.mu.Lock()
	for f := range c.follows.All() {
		log := f.log
		if id := envelope.SessionID(log.ID); isTopic(log) && !c.who.App && !rights.MayJoin(id) {
			lost = append(lost, id)
		}
	}
	c.mu.Unlock()
	if len(lost) > 0 {
		_ = c.unsubscribe(gateway.Unsubscribe{Topics: lost}) // else the connection is over
	}
}
