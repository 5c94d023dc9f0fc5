package push_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/push"
	"github.com/allsparkrt/allspark/store/embedded"
)

const interval = 2 * time.Minute

var phone = envelope.NodeID("phone").Address()

// rig is a store with one device that has a token, and what it has before it.
type rig struct {
	store *embedded.Store
	queue *push.Queue

	mu    sync.Mutex
	head  uint64              // guarded by mu; of the device's log
	got   []push.Notification // guarded by mu
	first func()              // guarded by mu; once, while a notification is sent
}

// Behind implements [push.Readers].
func (r *rig) Behind(context.Context, envelope.Address) ([]envelope.NodeID, error) {
	return []envelope.NodeID{"phone", "without"}, nil
}

// Unread implements [push.Readers].
func (r *rig) Unread(context.Context, envelope.NodeID, envelope.ClientID, map[envelope.Address]uint64) (push.Unread, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	env := &envelope.Envelope{DestNode: "phone", SrcNode: "alice", Seq: r.head, Timestamp: int64(r.head)}
	return push.Unread{Count: int(r.head), Logs: []push.Pending{{Log: phone, Envelope: env}}}, nil
}

// Send implements [push.Sender].
func (r *rig) Send(_ context.Context, _ push.Token, n push.Notification) error {
	r.mu.Lock()
	r.got = append(r.got, n)
	first := r.first
	r.first = nil
	r.mu.Unlock()
	if first != nil {
		first()
	}
	return nil
}

func (r *rig) sent() []push.Notification {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got
}

// say makes another message wait.
func (r *rig) say(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	r.head++
	r.mu.Unlock()
	if err := r.queue.Look(t.Context(), phone); err != nil {
		t.Error(err)
	}
}

func inRig(t *testing.T, f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		store, err := embedded.Open(embedded.Options{Dir: t.TempDir(), CacheBytes: 1 << 20, MemtableBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{store: store}
		r.queue = push.NewQueue(push.Config{
			Store: store, Readers: r, Senders: map[push.Service]push.Sender{push.FCM: r}, Interval: interval,
			Text: push.Text{BodyKey: "key"}, Log: slog.New(slog.DiscardHandler),
		})
		token := push.Token{Service: push.FCM, Value: "t", Node: "phone", Client: "bob", Registered: 1}
		if err := store.PutToken(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { r.queue.Run(ctx) })
		f(t, r)
		cancel()
		running.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // timers that look once more
	})
}

// What comes while a device is told is told later, and what was told is not
// told again.
func TestMeanwhile(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.first = func() { r.say(t) }
		r.say(t)
		time.Sleep(10 * time.Second)
		if n := len(r.sent()); n != 1 {
			t.Fatalf("%d sent at first", n)
		}
		time.Sleep(interval)
		if got := r.sent(); len(got) != 2 || got[1].Data["seq"] != "2" || got[0].ID == got[1].ID || got[0].CollapseID != got[1].CollapseID {
			t.Fatalf("%d sent in the end: %+v", len(got), got)
		}
		time.Sleep(3 * interval)
		if n := len(r.sent()); n != 2 {
			t.Errorf("%d sent", n)
		}
		jobs, err := r.store.DueJobs(t.Context(), 1<<60, 10)
		if err != nil || len(jobs) != 0 {
			t.Errorf("left to do: %+v, %v", jobs, err)
		}
	})
}

// A server that dies with a job leaves it to others once its time is over.
func TestLease(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		r.head = 1
		key := push.JobKey{Task: push.Tell, Addr: phone}
		dead := push.Job{JobKey: key, Claim: "dead", Due: time.Now().Add(time.Minute).UnixMilli(), Version: 1}
		if err := r.store.PutJob(t.Context(), dead); err != nil {
			t.Fatal(err)
		}
		if err := r.queue.Look(t.Context(), phone); err != nil { // does not take it away
			t.Fatal(err)
		}
		time.Sleep(58 * time.Second)
		if n := len(r.sent()); n != 0 {
			t.Errorf("%d sent while another has it", n)
		}
		time.Sleep(5 * time.Second)
		if n := len(r.sent()); n != 1 {
			t.Errorf("%d sent", n)
		}
	})
}

// What a clock that was ahead has put off is told after an interval.
func TestClockAhead(t *testing.T) {
	inRig(t, func(t *testing.T, r *rig) {
		ahead := time.Now().Add(24 * time.Hour).UnixMilli()
		job := push.Job{JobKey: push.JobKey{Task: push.Tell, Addr: phone}, Due: ahead, Opens: ahead, Version: 1}
		if err := r.store.PutJob(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		r.say(t)
		time.Sleep(interval - 5*time.Second)
		if n := len(r.sent()); n != 0 {
			t.Errorf("%d sent before an interval was over", n)
		}
		time.Sleep(10 * time.Second)
		if n := len(r.sent()); n != 1 {
			t.Errorf("%d sent", n)
		}
	})
}
