package push

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// tell looks at what a device has not got, tells it what is new, and takes back
// what has been read elsewhere. A job that is claimed is due when its lease is
// over, so what fails here is repeated.
func (q *Queue) tell(ctx context.Context, j Job) error {
	node := envelope.NodeID(j.Addr.ID)
	tokens, err := q.tokens(ctx, node)
	if err != nil {
		return err
	}
	if len(tokens) == 0 {
		return q.finish(ctx, j, q.cfg.Store.DropJob)
	}
	newest := slices.MaxFunc(tokens, func(a, b Token) int { return int(a.Registered - b.Registered) })
	is, err := q.cfg.Readers.Unread(ctx, node, newest.Client, j.Told)
	if err != nil {
		return err
	}
	j.Told = maps.Clone(j.Told)
	read := forget(j.Told, is)
	now := time.Now()
	next := int64(0) // nothing more to do
	q.dismiss(ctx, node, tokens, read, is.Count)
	fresh := news(is.Logs, j.Told)
	j.Opens = q.opens(j, now)
	switch {
	case len(fresh) == 0:
		j.Attempts = 0
	case j.Opens > now.UnixMilli():
		next = j.Opens
	default:
		next = q.show(ctx, &j, tokens, fresh, is.Count)
	}
	j.Due = next
	return q.finish(ctx, j, q.release)
}

// tokens returns those by which a device can be told something. Such that were
// registered with a credential that has been revoked since are dropped.
func (q *Queue) tokens(ctx context.Context, node envelope.NodeID) ([]Token, error) {
	all, err := q.cfg.Store.TokensOf(ctx, []envelope.NodeID{node})
	if err != nil {
		return nil, err
	}
	var good []Token
	for _, t := range all {
		switch {
		case q.cfg.Revoked != nil && q.cfg.Revoked(t):
			if err := q.cfg.Store.DropToken(ctx, t, t.Registered); err != nil {
				return nil, err
			}
		case q.cfg.Senders[t.Service] != nil:
			good = append(good, t)
		}
	}
	return good, nil
}

// forget takes out of told what the device has got itself or its user has read,
// and returns the logs of the latter.
func forget(told map[envelope.Address]uint64, is Unread) (read []envelope.Address) {
	for log, seq := range told {
		switch {
		case is.Got[log] >= seq:
		case is.Read[log] >= seq:
			read = append(read, log)
		default:
			continue
		}
		delete(told, log)
	}
	return read
}

// news returns what the device has not been told of, newest first.
func news(logs []Pending, told map[envelope.Address]uint64) []Pending {
	fresh := slices.DeleteFunc(slices.Clone(logs), func(p Pending) bool { return p.Envelope.Seq <= told[p.Log] })
	slices.SortFunc(fresh, func(a, b Pending) int { return int(b.Envelope.Timestamp - a.Envelope.Timestamp) })
	return fresh
}

// show tells a device of the newest message and notes the outcome. It returns
// when to try again, or when the next may be shown.
func (q *Queue) show(ctx context.Context, j *Job, tokens []Token, fresh []Pending, count int) (next int64) {
	of := fresh[0]
	id := notificationID(j.Addr, of)
	sent, failure, by := q.send(ctx, tokens, func(t Token) Notification {
		n := q.cfg.Text.in(t.Locale).notification(of, count)
		n.ID = id
		return n
	})
	now := time.Now()
	if !sent && failure == nil { // all tokens were dead
		j.Attempts = 0
		return 0
	}
	j.Attempts++
	if !sent && failure.Retry && j.Attempts < maxAttempts {
		q.Stats.Retried.Add(1)
		j.Opens = now.Add(max(failure.After, backoff(j.Attempts))).UnixMilli()
		return j.Opens
	}
	if sent {
		j.Failed = nil
	} else {
		q.Stats.Failed.Add(1)
		q.cfg.Log.Warn("a notification was given up", "service", by, "reason", failure.Reason, "attempts", j.Attempts)
		j.Failed = &DeadLetter{
			At: now.UnixMilli(), Log: of.Log, Seq: of.Envelope.Seq, Service: by, Reason: failure.Reason, Attempts: j.Attempts,
		}
		if q.cfg.Failed != nil {
			q.cfg.Failed(envelope.NodeID(j.Addr.ID), *j.Failed)
		}
	}
	j.Attempts, j.Opens = 0, now.Add(q.cfg.Interval).UnixMilli()
	if j.Told == nil {
		j.Told = make(map[envelope.Address]uint64)
	}
	for i, p := range fresh {
		if i < maxTold {
			j.Told[p.Log] = p.Envelope.Seq
		}
	}
	for log := range j.Told {
		if len(j.Told) <= maxTold {
			break
		}
		delete(j.Told, log) // it may be told again
	}
	return j.Opens // for what has come meanwhile
}

// backoff returns how long to wait after so many attempts in vain.
func backoff(attempts int) time.Duration {
	return min(firstRetry<<min(attempts-1, 20), lastRetry)
}

// dismiss takes back what was shown of logs. It is tried once: what stays is
// taken away by the app when it is opened.
func (q *Queue) dismiss(ctx context.Context, node envelope.NodeID, tokens []Token, logs []envelope.Address, count int) {
	for _, log := range logs {
		n := Notification{
			ID: notificationID(node.Address(), Pending{Log: log, Envelope: new(envelope.Envelope)}), CollapseID: collapseID(log),
			Silent: true, Dismiss: true, Badge: &count, Data: map[string]string{"log": log.String()},
			Expires: time.Now().Add(keepFor),
		}
		if sent, _, _ := q.send(ctx, tokens, func(Token) Notification { return n }); sent {
			q.Stats.Dismissed.Add(1)
		}
	}
}

// send hands a notification, as it is for each, to the services of a device's tokens. It is sent
// when one of them has taken it; else the failure is that of one which may take
// it later, if there is one. Dead tokens are dropped.
func (q *Queue) send(ctx context.Context, tokens []Token, say func(Token) Notification) (sent bool, failure *Failure, by Service) {
	for _, t := range tokens {
		f := q.attempt(ctx, t, say(t))
		switch {
		case f == nil:
			sent = true
		case f.Gone:
		case failure == nil, f.Retry && !failure.Retry:
			failure, by = f, t.Service
		}
	}
	return sent, failure, by
}

// attempt hands a notification to a service once. A token that the service says
// is dead is dropped.
func (q *Queue) attempt(ctx context.Context, t Token, n Notification) *Failure {
	within, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	err := q.cfg.Senders[t.Service].Send(within, t, n)
	if err == nil {
		q.Stats.Sent.Add(1)
		return nil
	}
	f, ok := errors.AsType[*Failure](err)
	if !ok {
		f = &Failure{Reason: "internal", Cause: err}
	}
	if !f.Gone {
		q.cfg.Log.Debug("a notification was not taken", "token", t, "reason", f.Reason, "retry", f.Retry)
		return f
	}
	q.Stats.Gone.Add(1)
	upto := t.Registered // what is registered after this was read stays
	if !f.Since.IsZero() {
		upto = min(upto, f.Since.UnixMilli())
	}
	if err := q.cfg.Store.DropToken(context.WithoutCancel(ctx), t, upto); err != nil {
		q.cfg.Log.Warn("a dead token stays for now", "token", t, "err", err)
	}
	return f
}

// notificationID is the same for all attempts to tell a device of a message.
func notificationID(device envelope.Address, of Pending) string {
	return digest(device.String() + "|" + of.Log.String() + "|" + strconv.FormatUint(of.Envelope.Seq, 10))
}

// collapseID is the same for all notifications about a log. It says nothing of it.
func collapseID(log envelope.Address) string { return digest(log.String()) }

// digest returns the form of a UUID (RFC 9562, version 8), which APNs wants.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
