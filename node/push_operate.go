package node

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/push"
)

const (
	// maxPushTests is how many tests of itself a device may ask for in a minute.
	maxPushTests    = 6
	pushTestBurst   = 30 * time.Second
	pushTestsAtOnce = 8
	maxFailedPushes = 1000 // of one page
)

// testPush carries out [gateway.TestPush].
func (n *Node) testPush(ctx context.Context, who envelope.Principal, cmd gateway.TestPush) (gateway.Event, error) {
	if cmd.Node == "" {
		cmd.Node = who.Node
	}
	switch {
	case !who.App && cmd.Node != who.Node:
		return nil, errNotApp
	case n.waker == nil:
		return nil, errPushOff
	case !envelope.ValidNode(string(cmd.Node)):
		return nil, envelope.Errorf(envelope.BadRequest, "node_id is a device's")
	case len(cmd.Title)+len(cmd.Body) > gateway.MaxTestText:
		return nil, envelope.Errorf(envelope.TooLarge, "title and body have at most %d bytes", gateway.MaxTestText)
	case strings.ContainsFunc(cmd.Title+cmd.Body, unicode.IsControl):
		return nil, envelope.Errorf(envelope.BadRequest, "title and body are plain text")
	}
	if cmd.Title == "" && cmd.Body == "" {
		cmd.Title = "Test" // without any text phones show nothing
	}
	if !who.App {
		if err := n.waker.tests.share(who.Node).take(); err != nil {
			return nil, err
		}
	}
	select {
	case n.waker.slots <- struct{}{}:
		defer func() { <-n.waker.slots }()
	default:
		return nil, envelope.BusyError(1000, "too many tests at once", nil)
	}
	tried, err := n.waker.queue.Test(ctx, cmd.Node, cmd.Title, cmd.Body)
	if err != nil {
		return nil, err
	}
	if len(tried) == 0 {
		return nil, envelope.Errorf(envelope.NotFound, "the device has registered no push token")
	}
	reply := gateway.PushTested{Of: make([]gateway.PushTry, len(tried))}
	for i, try := range tried {
		of := gateway.PushTry{Service: string(try.Token.Service), Token: try.Token.String(), Sent: try.Failure == nil}
		if f := try.Failure; f != nil {
			if !who.App {
				f = f.Told()
			}
			of.Reason, of.Gone, of.Retry, of.After = f.Reason, f.Gone, f.Retry, f.After
		}
		reply.Of[i] = of
	}
	return reply, nil
}

// failedPushes carries out [gateway.GetFailedPushes].
func (n *Node) failedPushes(ctx context.Context, who envelope.Principal, cmd gateway.GetFailedPushes) (gateway.Event, error) {
	switch {
	case !who.App:
		return nil, errNotApp
	case n.waker == nil:
		return nil, errPushOff
	}
	if cmd.Limit <= 0 || cmd.Limit > maxFailedPushes {
		cmd.Limit = maxFailedPushes
	}
	jobs, err := n.waker.store.FailedJobs(ctx, cmd.After, cmd.Limit+1)
	if err != nil {
		return nil, err
	}
	reply := gateway.FailedPushes{More: len(jobs) > cmd.Limit}
	for _, j := range jobs[:min(len(jobs), cmd.Limit)] {
		f := j.Failed
		reply.Next = envelope.NodeID(j.Addr.ID)
		of := gateway.FailedPush{Node: reply.Next, At: f.At, Service: string(f.Service), Reason: f.Reason, Attempts: f.Attempts}
		// In which sessions a device is, and by what alias, is not said.
		if f.Log == j.Addr || f.Log.Kind == envelope.KindClient {
			of.Log, of.Seq = f.Log, f.Seq
		}
		reply.Of = append(reply.Of, of)
	}
	return reply, nil
}

// settleFailedPush carries out [gateway.SettleFailedPush].
func (n *Node) settleFailedPush(ctx context.Context, who envelope.Principal, cmd gateway.SettleFailedPush) (gateway.Event, error) {
	switch {
	case !who.App:
		return nil, errNotApp
	case n.waker == nil:
		return nil, errPushOff
	case !envelope.ValidNode(string(cmd.Node)):
		return nil, envelope.Errorf(envelope.BadRequest, "that is no device")
	}
	err := n.waker.queue.Settle(ctx, cmd.Node, cmd.Again)
	if errors.Is(err, push.ErrWorking) || errors.Is(err, push.ErrChanged) {
		return nil, envelope.BusyError(1000, "the device is being told something just now", err)
	}
	return gateway.Done{}, err
}
