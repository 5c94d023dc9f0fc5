package push

import (
	"context"
	"errors"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// ErrWorking means that a server is telling a device something just now.
var ErrWorking = errors.New("push: the device is being told")

// settleAttempts is how often a dead letter's job may change meanwhile.
const settleAttempts = 5

// Settle forgets the dead letter of a device, if there is one; with again, it is
// due to tell the device of that log once more, without waiting for the interval.
func (q *Queue) Settle(ctx context.Context, node envelope.NodeID, again bool) error {
	err := ErrChanged
	for range settleAttempts {
		if err = q.settle(ctx, node, again); !errors.Is(err, ErrChanged) {
			break
		}
	}
	return err
}

func (q *Queue) settle(ctx context.Context, node envelope.NodeID, again bool) error {
	jobs, err := q.cfg.Store.Jobs(ctx, []JobKey{{Tell, node.Address()}})
	switch {
	case err != nil:
		return err
	case len(jobs) == 0 || jobs[0].Failed == nil:
		return nil
	case jobs[0].Claim != "": // it writes the job as it knows it
		return ErrWorking
	}
	j := jobs[0]
	if again {
		delete(j.Told, j.Failed.Log)
		j.Attempts, j.Opens, j.Due = 0, 0, time.Now().UnixMilli()
	}
	j.Failed = nil
	j.Version++
	return q.cfg.Store.PutJob(ctx, j)
}
