package push_test

import (
	"errors"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/push"
)

// A dead letter is settled once; not while a server is at the job, which would
// write it as it knows it, and what was told of other logs stays.
func TestSettle(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		room := envelope.SessionID("room").Address()
		later := time.Now().Add(time.Hour).UnixMilli()
		j := push.Job{
			JobKey: push.JobKey{Task: push.Tell, Addr: phone}, Version: 1, Claim: "somebody", Due: later, Opens: later,
			Told:   map[envelope.Address]uint64{room: 7, phone: 3},
			Failed: &push.DeadLetter{At: 1, Log: room, Seq: 7, Service: push.FCM, Reason: "BAD", Attempts: 1},
		}
		put := func() {
			t.Helper()
			if err := r.store.PutJob(t.Context(), j); err != nil {
				t.Fatal(err)
			}
			j.Version++
		}
		is := func() push.Job {
			t.Helper()
			jobs, err := r.store.Jobs(t.Context(), []push.JobKey{j.JobKey})
			if err != nil || len(jobs) != 1 {
				t.Fatalf("%+v, %v", jobs, err)
			}
			return jobs[0]
		}
		put()
		for _, again := range []bool{false, true} {
			if err := r.queue.Settle(t.Context(), "phone", again); !errors.Is(err, push.ErrWorking) || is().Failed == nil {
				t.Errorf("while somebody is at it: %v", err)
			}
		}
		j.Claim = ""
		put()
		if err := r.queue.Settle(t.Context(), "phone", true); err != nil {
			t.Fatal(err)
		}
		got := is()
		if got.Failed != nil || got.Due > time.Now().UnixMilli() || got.Opens != 0 || len(got.Told) != 1 || got.Told[phone] != 3 {
			t.Errorf("to be told again: %+v", got)
		}
		j.Version = got.Version + 1
		put()
		if err := r.queue.Settle(t.Context(), "phone", false); err != nil {
			t.Fatal(err)
		}
		if got := is(); got.Failed != nil || got.Due != later || got.Opens != later || len(got.Told) != 2 {
			t.Errorf("forgotten: %+v", got)
		}
		for range 2 {
			if err := r.queue.Settle(t.Context(), "nobody", true); err != nil {
				t.Errorf("of nobody: %v", err)
			}
		}
	})
}
