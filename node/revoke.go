package node

import (
	"context"
	"errors"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/push"
)

const (
	// revokedPoll is between looks at what other servers have revoked. They say
	// so at once; that may be lost, or have been said before this one began.
	revokedPoll = time.Second
	// revokedDrop is between rounds that delete the revocations that are over.
	revokedDrop = time.Hour
)

// revoker ends the connections of credentials that were revoked. The credential
// of a connection is looked at after it has been entered, and all connections
// are after a revocation has been learned: none is missed.
type revoker struct {
	n    *Node
	rows *auth.Revocations // nil: nothing is ever revoked
}

// run looks at the store until ctx ends.
func (r *revoker) run(ctx context.Context) {
	if r.rows == nil {
		return
	}
	poll, drop := time.NewTicker(revokedPoll), time.NewTicker(revokedDrop)
	defer poll.Stop()
	defer drop.Stop()
	for {
		select {
		case <-poll.C:
			news, err := r.rows.Refresh(ctx)
			if err != nil {
				r.n.log.Debug("cannot see what was revoked; trying again", "err", err)
			}
			if news {
				r.enforce()
			}
		case <-drop.C:
			if err := r.rows.Drop(ctx); err != nil {
				r.n.log.Debug("revocations that are over not deleted yet", "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// learn takes another server's word for what was revoked.
func (r *revoker) learn(rows []auth.Revocation) {
	if r.rows != nil && r.rows.Learn(rows...) {
		r.enforce()
	}
}

// enforce ends the connections here whose credentials do not hold any more.
func (r *revoker) enforce() {
	for _, c := range r.n.conns.all() {
		r.check(c)
	}
}

// holds refuses a credential that was revoked.
func (r *revoker) holds(c *conn) error {
	return r.rows.Check(c.verified())
}

// check ends a connection whose credential does not hold any more: what waits
// to be written is not for its owner, and what it still says is not heard.
func (r *revoker) check(c *conn) (revoked bool) {
	err := r.holds(c)
	if err == nil || !c.revoked.CompareAndSwap(false, true) {
		return err != nil
	}
	r.n.stats.ClosedRevoked.Add(1)
	abort := time.AfterFunc(closing, c.t.Abort)
	c.spawn(func() {
		defer abort.Stop()
		e := envelope.AsError(err)
		c.t.Close(e.Code, e.Detail)
		c.cancel(e)
	})
	return true
}

// revoke carries out [gateway.Revoke].
func (n *Node) revoke(ctx context.Context, who envelope.Principal, cmd gateway.Revoke) (gateway.Event, error) {
	if err := n.mayRevoke(who); err != nil {
		return nil, err
	}
	row, err := n.revoker.rows.Revoke(ctx, auth.Revocation(cmd))
	if err != nil {
		return nil, err
	}
	n.peers.broadcast(recordRevoked, revokedBody(row))
	n.revoker.enforce()
	if err := n.dropRevoked(ctx, row); err != nil {
		return nil, err // it holds; what is left to do is done when it is repeated
	}
	return gateway.Revocations{Of: []gateway.Revoke{gateway.Revoke(row)}}, nil
}

// dropRevoked drops the push tokens that were registered with credentials that
// do not count any more: what is said goes along with notifications. A device
// registers its token again with its next credential.
func (n *Node) dropRevoked(ctx context.Context, row auth.Revocation) error {
	var tokens []push.Token
	var err error
	switch {
	case n.waker == nil:
	case row.Client != "":
		tokens, err = n.waker.store.TokensOfClient(ctx, row.Client)
	case row.Node != "":
		tokens, err = n.waker.store.TokensOf(ctx, []envelope.NodeID{row.Node})
	default:
		err = n.waker.store.DropTokens(ctx, row.JTI, row.Before)
	}
	for _, t := range tokens {
		err = errors.Join(err, n.waker.store.DropToken(ctx, t, row.Before), n.waker.queue.Forget(ctx, t.Node))
	}
	return err
}

// revokedToken reports whether a push token was registered with a credential that
// has been revoked, as far as this server knows: at a server that had yet to
// learn of it, that is.
func (n *Node) revokedToken(t push.Token) bool {
	by := auth.Verified{Principal: envelope.Principal{Node: t.Node, Client: t.Client}, JTI: t.JTI}
	if t.Issued != 0 {
		by.Issued = time.UnixMilli(t.Issued)
	}
	return n.revoker.rows.Check(by) != nil
}

func (n *Node) mayRevoke(who envelope.Principal) error {
	switch {
	case !who.App:
		return envelope.Errorf(envelope.Forbidden, "only the app may do that")
	case n.revoker.rows == nil:
		return envelope.Errorf(envelope.NotFound, "this server revokes nothing")
	}
	return nil
}
