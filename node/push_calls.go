package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/push"
	"github.com/allsparkrt/allspark/session"
)

const (
	// maxPushTokens bounds the tokens of one device; the oldest go.
	maxPushTokens = 4
	// maxMutes bounds the logs that one device has muted.
	maxMutes = 1000
)

// putPushToken notes where a device can be woken. A token moves to the device
// that registers it last, and takes the place of an older one of the same app.
func (n *Node) putPushToken(ctx context.Context, who envelope.Principal, cmd gateway.PutPushToken) (gateway.Event, error) {
	if n.waker == nil {
		return nil, errPushOff
	}
	t, err := push.ValidToken(push.Token{
		Service: push.Service(cmd.Service), Value: cmd.Value, App: cmd.App, Sandbox: cmd.Sandbox,
		P256DH: cmd.P256DH, Auth: cmd.Auth, Locale: cmd.Locale,
	})
	if err != nil {
		return nil, &envelope.Error{Code: envelope.BadRequest, Detail: err.Error(), Cause: err}
	}
	if n.cfg.Push.Senders[t.Service] == nil {
		return nil, envelope.Errorf(envelope.NotFound, "this server sends nothing to %s", t.Service)
	}
	t.Node, t.Client, t.Registered, t.JTI = who.Node, who.Client, time.Now().UnixMilli(), cmd.By.JTI
	if !cmd.By.Issued.IsZero() {
		t.Issued = cmd.By.Issued.UnixMilli()
	}
	if err := n.waker.store.PutToken(ctx, t); err != nil {
		return nil, err
	}
	if n.revokedToken(t) { // while it was put
		err := n.waker.store.DropToken(ctx, t, t.Registered)
		return nil, errors.Join(envelope.Errorf(envelope.Unauthorized, "revoked"), err)
	}
	all, err := n.waker.store.TokensOf(ctx, []envelope.NodeID{who.Node})
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(all, func(is push.Token) bool {
		return is.Service == t.Service && is.Value == t.Value && is.Registered == t.Registered
	}) { // at a server with a clock that is ahead of ours, or meanwhile
		return nil, envelope.BusyError(1000, "the token was registered later than now", nil)
	}
	slices.SortFunc(all, func(a, b push.Token) int { return int(b.Registered - a.Registered) })
	for i, old := range all {
		same := old.Service == t.Service && old.App == t.App && old.Sandbox == t.Sandbox
		if old.Value != t.Value && old.Registered < t.Registered && (same || i >= maxPushTokens) {
			err = errors.Join(err, n.waker.store.DropToken(ctx, old, old.Registered))
		}
	}
	return gateway.Done{}, err
}

// dropPushToken takes back putPushToken: of all tokens, without one named.
func (n *Node) dropPushToken(ctx context.Context, who envelope.Principal, cmd gateway.DropPushToken) (gateway.Event, error) {
	if n.waker == nil {
		return nil, errPushOff
	}
	all, err := n.waker.store.TokensOf(ctx, []envelope.NodeID{who.Node})
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if (cmd.Service == "" || string(t.Service) == cmd.Service) && (cmd.Value == "" || t.Value == cmd.Value) {
			err = errors.Join(err, n.waker.store.DropToken(ctx, t, t.Registered))
		}
	}
	return gateway.Done{}, errors.Join(err, n.waker.queue.Forget(ctx, who.Node))
}

// mute keeps a log from waking a device.
func (n *Node) mute(ctx context.Context, who envelope.Principal, cmd gateway.Mute) (gateway.Event, error) {
	if n.waker == nil {
		return nil, errPushOff
	}
	if cmd.Off {
		return gateway.Done{}, n.waker.store.DropMute(ctx, who.Node, cmd.Log)
	}
	if cmd.Log != who.Node.Address() && cmd.Log != who.Client.Address() {
		if _, err := n.view(ctx, who, cmd.Log); err != nil {
			return nil, err
		}
	}
	if err := n.makeRoom(ctx, who.Node, cmd.Log); err != nil {
		return nil, err
	}
	return gateway.Done{}, n.waker.store.PutMute(ctx, push.Mute{Node: who.Node, Log: cmd.Log, Until: cmd.Until})
}

// makeRoom refuses one more mute of a device that has too many, without those
// that are over, which are dropped then.
func (n *Node) makeRoom(ctx context.Context, node envelope.NodeID, log envelope.Address) error {
	mutes, err := n.waker.store.Mutes(ctx, node)
	if err != nil || len(mutes) < maxMutes {
		return err
	}
	left, now := len(mutes), time.Now().UnixMilli()
	for _, m := range mutes {
		switch {
		case m.Log == log:
			return nil
		case m.Until != 0 && m.Until <= now:
			if err := n.waker.store.DropMute(ctx, node, m.Log); err != nil {
				return err
			}
			left--
		}
	}
	if left >= maxMutes {
		return envelope.Errorf(envelope.Quota, "a device mutes at most %d logs", maxMutes)
	}
	return nil
}

// left takes back what a device that has left a session was shown of it, and that
// it has muted it. What fails here is only a notification that stays.
func (w *waker) left(ctx context.Context, m session.Member) {
	if w == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pushWithin)
	defer cancel()
	err := errors.Join(w.store.DropMute(ctx, m.Device, m.Session.Address()), w.queue.Left(ctx, m.Device))
	if err != nil {
		w.n.log.Debug("what a device was shown of a session that it has left stays", "err", err)
	}
}

// legacyToken notes the token that a legacy client gives with type −101.
func (n *Node) legacyToken(ctx context.Context, who envelope.Principal, cmd gateway.FetchPending) error {
	if cmd.PushToken == "" {
		return nil
	}
	if n.waker == nil || n.cfg.Push.Senders[push.FCM] == nil {
		return envelope.Errorf(envelope.BadRequest, "update_gcm_key is not served: this server sends no push notifications")
	}
	_, err := n.putPushToken(ctx, who, gateway.PutPushToken{Service: string(push.FCM), Value: cmd.PushToken, By: cmd.By})
	return err
}
