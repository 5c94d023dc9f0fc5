package load

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/bench/peer"
)

// offline is durable messages to users who are away and then come back.
type offline struct {
	Receivers int
	Senders   int
	Messages  int
	Inflight  int
}

func (o offline) run(ctx context.Context, r *run) error {
	x := newExchange(r, pairs{Users: o.Senders + o.Receivers, Senders: o.Senders, Messages: o.Messages, Inflight: o.Inflight, Durable: true})
	x.to = func(u *pairUser) int { return o.Senders + u.rand.IntN(o.Receivers) }
	connect := func(i int) error {
		return r.connect(ctx, x.users[i].user, peer.User{Durable: true}, x.handler(i))
	}
	if err := r.connectAll(ctx, len(x.users), connect); err != nil {
		return err
	}
	for _, u := range x.users[o.Senders:] { // they have been there once
		if err := u.client.Close(); err != nil {
			return err
		}
	}
	if err := r.sleep(ctx, quiet); err != nil {
		return err
	}

	ph := newPhase(r.id+1, o.Messages, true)
	ph.away = true
	before, err := r.meter.read()
	if err != nil {
		return err
	}
	if err := x.exchange(ctx, ph); err != nil {
		return err
	}
	stored, err := r.meter.read()
	if err != nil {
		return err
	}
	r.costs(before, stored, o.Messages, "message")
	r.flow(int(ph.answered.Load()), stored.at.Sub(before.at), "messages")

	if err := r.connectAll(ctx, o.Receivers, func(i int) error { return connect(o.Senders + i) }); err != nil {
		return err
	}
	if err := r.watch(ctx, ph.messages, ph.received.Load); err != nil {
		return err
	}
	replayed, err := r.meter.read()
	if err != nil {
		return err
	}
	if err := r.sleep(ctx, quiet); err != nil {
		return err
	}
	v := ph.ledger.Verdict()
	r.verdict(v)
	r.result.ToAck = ph.toAck.latency()
	r.replay(stored, replayed, v.Received, time.Duration(ph.last.Load())-stored.at.Sub(ph.start))
	r.percentiles()
	return nil
}

// replay adds what it cost, and how long it took, to give n messages to those
// who were away.
func (r *run) replay(before, after reading, n int, took time.Duration) {
	if n == 0 || took <= 0 {
		return
	}
	r.result.figure("replay", "messages/s", float64(n)/took.Seconds(), More)
	if len(r.meter.pids) > 0 {
		used := after.server.CPU - before.server.CPU
		r.result.figure("replay CPU", "µs/message", float64(used.Nanoseconds())/1000/float64(n), Less)
	}
}
