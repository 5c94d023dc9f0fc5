package push

import (
	"context"
	crand "crypto/rand"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// How a queue works.
const (
	tick        = time.Second
	batch       = 200              // jobs that are looked for at once
	lease       = 2 * time.Minute  // how long a server has for a job
	atOnce      = 32               // jobs that one server is at
	sendWithin  = 10 * time.Second // one attempt
	firstRetry  = 5 * time.Second  // doubled with each attempt
	lastRetry   = 10 * time.Minute
	maxAttempts = 10
	maxTold     = 50 // logs of which it is remembered what a device was told
	tokenBatch  = 500
)

// Readers says what a mesh knows of logs and of the devices that read them.
// Its methods are safe for concurrent use.
type Readers interface {
	// Behind returns devices that may read a log and have not got all of it.
	// It may name more than those.
	Behind(ctx context.Context, log envelope.Address) ([]envelope.NodeID, error)
	// Unread returns what a device has not got or its user not read, of the logs
	// in which there is any; and of those in told how far they have been read.
	Unread(ctx context.Context, node envelope.NodeID, client envelope.ClientID, told map[envelope.Address]uint64) (Unread, error)
}

// Unread is what a device has before it.
type Unread struct {
	Count int       // messages that its user has not read, as far as is known
	Logs  []Pending // what the device has not got, without what causes no notification
	// Read is up to where logs have been read by the user on any device, or are not
	// the device's to read any more; Got up to where the device has got them.
	Read, Got map[envelope.Address]uint64
}

// Pending is the newest message of a log that a device has not got.
type Pending struct {
	Log      envelope.Address
	Envelope *envelope.Envelope // as the device will get it: with aliases
}

// Config is what a [Queue] is made of.
type Config struct {
	Store    Store
	Readers  Readers
	Senders  map[Service]Sender
	Interval time.Duration // the least time between two notifications that a device shows
	Text     Text
	Revoked  func(t Token) bool                           // whether the credential was that it was registered with; nil: none ever is
	Failed   func(device envelope.NodeID, why DeadLetter) // told when a notification is given up; may be nil, must not block
	Log      *slog.Logger
}

// Stats counts what a queue has done.
type Stats struct {
	Sent      atomic.Uint64 // notifications taken by a service
	Dismissed atomic.Uint64 // of these, such that take one back
	Retried   atomic.Uint64 // attempts that failed and are repeated
	Gone      atomic.Uint64 // tokens dropped because the service said so
	Failed    atomic.Uint64 // notifications given up
	Lost      atomic.Uint64 // hints not kept because too many waited
	Errors    atomic.Uint64 // jobs that the store let fail; they are repeated
}

// Queue finds out which devices are to be told what, and tells them. The work
// is in the store: all servers of a mesh share it, each job is done by one of
// them at a time, and what one dies with another does later.
type Queue struct {
	cfg   Config
	Stats Stats
	slots chan struct{} // holds a token for each job that is worked at

	mu   sync.Mutex
	busy map[JobKey]bool // guarded by mu; claimed here
}

// NewQueue returns a queue, which works while [Queue.Run] runs.
func NewQueue(cfg Config) *Queue {
	return &Queue{cfg: cfg, slots: make(chan struct{}, atOnce), busy: make(map[JobKey]bool)}
}

// Run does what is due until ctx ends.
func (q *Queue) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		jobs, err := q.cfg.Store.DueJobs(ctx, time.Now().UnixMilli(), batch)
		if err != nil {
			if ctx.Err() == nil {
				q.Stats.Errors.Add(1)
				q.cfg.Log.Warn("cannot look for notifications that are due; trying again", "err", err)
			}
			continue
		}
		// Servers that look at once begin at different ends.
		rand.Shuffle(len(jobs), func(i, j int) { jobs[i], jobs[j] = jobs[j], jobs[i] })
		for _, j := range jobs {
			if !q.take(j.JobKey) {
				continue
			}
			select {
			case q.slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			wg.Go(func() {
				defer func() { q.leave(j.JobKey); <-q.slots }()
				q.work(ctx, j)
			})
		}
	}
}

// take reserves a job on this server, so that it is not at it twice.
func (q *Queue) take(key JobKey) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.busy[key] {
		return false
	}
	q.busy[key] = true
	return true
}

func (q *Queue) leave(key JobKey) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.busy, key)
}

// work claims a job and does it. What fails stays claimed, and so is repeated
// when the lease is over.
func (q *Queue) work(ctx context.Context, j Job) {
	ctx, cancel := context.WithTimeout(ctx, lease/2)
	defer cancel()
	j.Due, j.Claim = time.Now().Add(lease).UnixMilli(), crand.Text()
	j.Version++
	err := q.cfg.Store.PutJob(ctx, j)
	if err == nil {
		if j.Task == Look {
			if err = q.Look(ctx, j.Addr); err == nil {
				err = q.finish(ctx, j, q.cfg.Store.DropJob)
			}
		} else {
			err = q.tell(ctx, j)
		}
	}
	// Who has changed it first works at it.
	if err != nil && !errors.Is(err, ErrChanged) && ctx.Err() == nil {
		q.Stats.Errors.Add(1)
		q.cfg.Log.Warn("a notification waits for the store", "err", err)
	}
}

// finish ends the work at a job by end. When the job has been touched meanwhile
// it is put, and due at once.
func (q *Queue) finish(ctx context.Context, j Job, end func(context.Context, Job) error) error {
	// What was sent must not be sent again because this server is told to end.
	ctx = context.WithoutCancel(ctx)
	err := end(ctx, j)
	for errors.Is(err, ErrChanged) {
		is, readErr := q.cfg.Store.Jobs(ctx, []JobKey{j.JobKey})
		if readErr != nil {
			return readErr
		}
		if len(is) == 0 || is[0].Claim != j.Claim {
			return err
		}
		j.Due, j.Version = time.Now().UnixMilli(), is[0].Version
		err = q.release(ctx, j)
	}
	return err
}

// release puts a job that is claimed no more.
func (q *Queue) release(ctx context.Context, j Job) error {
	j.Claim = ""
	j.Version++
	return q.cfg.Store.PutJob(ctx, j)
}

// Look makes it due to tell those devices that have not got all of a log.
func (q *Queue) Look(ctx context.Context, log envelope.Address) error {
	nodes, err := q.cfg.Readers.Behind(ctx, log)
	if err != nil {
		return err
	}
	return q.LookAt(ctx, nodes)
}

// LookAt makes it due to tell devices what they have not got, of whatever log.
func (q *Queue) LookAt(ctx context.Context, nodes []envelope.NodeID) error {
	for len(nodes) > 0 {
		some := nodes[:min(len(nodes), tokenBatch)]
		nodes = nodes[len(some):]
		tokens, err := q.cfg.Store.TokensOf(ctx, some)
		if err != nil {
			return err
		}
		if err := q.due(ctx, tokens); err != nil {
			return err
		}
	}
	return nil
}

// due makes it due to tell devices, but those that will be told when they may be
// next.
func (q *Queue) due(ctx context.Context, tokens []Token) error {
	has := make(map[JobKey]bool, len(tokens))
	var keys []JobKey
	for _, t := range tokens {
		if key := (JobKey{Tell, t.Node.Address()}); !has[key] {
			has[key] = true
			keys = append(keys, key)
		}
	}
	jobs, err := q.cfg.Store.Jobs(ctx, keys)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, j := range jobs {
		if j.Due != 0 && j.Due == j.Opens && j.Opens == q.opens(j, now) {
			delete(has, j.JobKey)
		}
	}
	keys = keys[:0]
	for key := range has {
		keys = append(keys, key)
	}
	return q.touch(ctx, keys)
}

// opens returns when something may be shown to a device, but what a clock that
// was ahead has put off further than anything is put off.
func (q *Queue) opens(j Job, now time.Time) int64 {
	most := q.cfg.Interval
	if j.Attempts > 0 { // see show
		most = max(maxRetryAfter, lastRetry)
	}
	return min(j.Opens, now.Add(most).UnixMilli())
}

// Read makes it due to take back what was shown to devices of a user, since it
// has read a log elsewhere.
func (q *Queue) Read(ctx context.Context, client envelope.ClientID, log envelope.Address) error {
	tokens, err := q.cfg.Store.TokensOfClient(ctx, client)
	if err != nil || len(tokens) == 0 {
		return err
	}
	keys := make([]JobKey, len(tokens))
	for i, t := range tokens {
		keys[i] = JobKey{Tell, t.Node.Address()}
	}
	jobs, err := q.cfg.Store.Jobs(ctx, keys)
	if err != nil {
		return err
	}
	keys = keys[:0]
	for _, j := range jobs {
		if j.Told[log] != 0 {
			keys = append(keys, j.JobKey)
		}
	}
	return q.touch(ctx, keys)
}

// Left makes it due to take back what was shown to a device that has left a session.
func (q *Queue) Left(ctx context.Context, node envelope.NodeID) error {
	jobs, err := q.cfg.Store.Jobs(ctx, []JobKey{{Tell, node.Address()}})
	if err != nil || len(jobs) == 0 || len(jobs[0].Told) == 0 {
		return err
	}
	return q.touch(ctx, []JobKey{jobs[0].JobKey})
}

// Forget makes it due to look whether anything is left to be known of a device.
func (q *Queue) Forget(ctx context.Context, node envelope.NodeID) error {
	return q.touch(ctx, []JobKey{{Tell, node.Address()}})
}

// touch makes jobs due at once.
func (q *Queue) touch(ctx context.Context, keys []JobKey) error {
	if len(keys) == 0 {
		return nil
	}
	return q.cfg.Store.Touch(ctx, keys, time.Now().UnixMilli())
}
