package storetest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Floor does the least that a store must do on the same disk: it appends n
// records of 300 bytes to a file and syncs it after each batch of them.
type Floor func(n, batch int) error

// Bench measures durable appends of 300-byte messages by 1, 16 and 256
// senders, each to its own log: each waiting for its ack before the next, the same with a
// Trim at work, and with up to 32 unanswered; and the replay of a log in pages of 100.
//
// With a floor, appends take turns with it, and floor-ratio says how many
// appends there are for each record of the floor in the same time. The disk
// may drift between runs; the ratio hardly does.
func Bench(b *testing.B, open Open, floor Floor) {
	for _, senders := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("append/senders=%d", senders), func(b *testing.B) {
			newLoad(b, open, senders, 1).run(floor)
		})
	}
	b.Run("append/senders=256/unanswered=32", func(b *testing.B) {
		newLoad(b, open, 256, 32).run(floor)
	})
	b.Run("append beside trim/senders=256", func(b *testing.B) {
		l := newLoad(b, open, 256, 1)
		ended, stopped := make(chan struct{}), make(chan error)
		go func() { stopped <- l.trimAll(ended) }()
		defer func() {
			close(ended)
			if err := <-stopped; err != nil {
				b.Error(err)
			}
		}()
		l.run(floor)
	})
	b.Run("replay", func(b *testing.B) { replay(b, open(b)) })
}

// sized returns a message of about 300 bytes as stores keep it, with an id that
// looks like a random one.
func sized(n int) *envelope.Envelope {
	return message(alice, strconv.FormatUint(uint64(n)*0x9e3779b97f4a7c15, 36), strings.Repeat("x", 200))
}

// load is some senders that append to logs of their own.
type load struct {
	*testing.B
	store  Store
	logs   []envelope.Address
	idle   chan int // each sender for each message that it may send now
	failed chan error
	n      int // messages sent
}

func newLoad(b *testing.B, open Open, senders, unanswered int) *load {
	l := &load{B: b, store: open(b), idle: make(chan int, senders*unanswered), failed: make(chan error, 1)}
	b.Cleanup(func() { _ = l.store.Close() })
	for i := range senders {
		l.logs = append(l.logs, sender(i).Address())
	}
	l.release()
	return l
}

// release lets all senders send.
func (l *load) release() {
	for n := range cap(l.idle) {
		l.idle <- n % len(l.logs)
	}
}

// run measures. A round with the floor is long enough for the pause between
// them not to matter.
func (l *load) run(floor Floor) {
	atOnce := cap(l.idle)
	synced := min(atOnce, 4096) // more than that no store takes at once
	round := 64 * atOnce
	var took, floorTook time.Duration
	began := time.Now()
	for l.Loop() {
		l.send()
		if floor == nil || l.n%round != 0 {
			continue
		}
		l.wait()
		took += time.Since(began)
		l.StopTimer()
		began = time.Now()
		if err := floor(round, synced); err != nil {
			l.Fatal(err)
		}
		floorTook += time.Since(began)
		l.StartTimer()
		began = time.Now()
	}
	l.wait()
	l.ReportMetric(float64(l.n)/l.Elapsed().Seconds(), "appends/s")
	if took > 0 {
		l.ReportMetric(floorTook.Seconds()/took.Seconds(), "floor-ratio")
	}
}

// send appends one message, once a sender may.
func (l *load) send() {
	i := <-l.idle
	l.n++
	l.store.Append(l.logs[i], sized(l.n), func(_ uint64, err error) {
		if err != nil {
			select {
			case l.failed <- err:
			default:
			}
		}
		l.idle <- i
	})
}

// wait returns when everything is acknowledged.
func (l *load) wait() {
	for range cap(l.idle) {
		<-l.idle
	}
	l.release()
	select {
	case err := <-l.failed:
		l.Fatal(err)
	default:
	}
}

// trimAll trims every log to its last ten entries, over and over.
func (l *load) trimAll(ended <-chan struct{}) error {
	for i := 0; ; i++ {
		select {
		case <-ended:
			return nil
		default:
		}
		log := l.logs[i%len(l.logs)]
		x, err := l.store.Extent(l.Context(), log)
		if err == nil {
			err = l.store.Trim(l.Context(), log, x.Head-min(x.Head, 10), time.UnixMilli(0))
		}
		if err != nil {
			return err
		}
	}
}

func replay(b *testing.B, store Store) {
	defer func() { _ = store.Close() }()
	log := bob.Address()
	var last *call
	const entries, limit = 500, 100
	for i := range entries {
		last = start(store, log, sized(i))
	}
	if _, err := last.wait(); err != nil {
		b.Fatal(err)
	}
	after := uint64(0)
	for b.Loop() {
		page, err := store.Read(b.Context(), log, after, limit, 1<<20)
		if err != nil || len(page) != limit {
			b.Fatal(len(page), err)
		}
		after = (after + limit) % entries
	}
	b.ReportMetric(float64(limit*b.N)/b.Elapsed().Seconds(), "entries/s")
}
