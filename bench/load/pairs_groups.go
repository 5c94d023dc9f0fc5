package load

import (
	"context"
	"sync/atomic"
	"time"
)

// groupOfTwo is a group as the member sees it who sends.
type groupOfTwo struct {
	name string
	with int // the other member
}

// makeGroups makes groups of a sender and a user who only listens, no two of them of the
// same two: between two users messages have one way to go.
func (x *exchange) makeGroups(ctx context.Context) error {
	if x.Groups == 0 {
		return nil
	}
	names := make([]string, x.Groups)
	for k := range names {
		names[k] = x.name("g", k)
		one, other := x.twoOf(k)
		if x.Spoken == 0 || k < x.Spoken {
			x.users[one].groups = append(x.users[one].groups, groupOfTwo{names[k], other})
		}
	}
	var made atomic.Int64
	err := inParallel(ctx, grouping, x.Groups, func(k int) error {
		x.progress(made.Add(1), int64(x.Groups))
		one, other := x.twoOf(k)
		return x.Target.Group(ctx, names[k], []string{x.users[one].name, x.users[other].name})
	})
	if err != nil {
		return err
	}
	if err := x.sleep(ctx, time.Second); err != nil { // all members have heard of it
		return err
	}
	return x.settle(ctx)
}

// twoOf returns who is in the group of that number: one who sends and one who
// listens. Both are taken in turn, so that however many groups there are, no
// sender has more of them than the others but for one, and no listener.
func (x *exchange) twoOf(k int) (sender, listener int) {
	listeners := x.Users - x.Senders
	sender = k % x.Senders
	return sender, x.Senders + (sender*listeners/x.Senders+k/x.Senders)%listeners
}
