package client

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// topicRetry is the wait after a refusal that names none.
const topicRetry = time.Second

// topics keeps which topics the user follows, and what of that the server has
// still to be told on the present connection. It does no I/O. All of it is
// guarded by Client.mu.
type topics struct {
	wanted    map[envelope.SessionID]subscription
	asked     map[string][]envelope.SessionID // by the id of a frame that is not answered
	undone    []envelope.SessionID            // to be followed no more
	calls     []*topicCall
	notBefore time.Time // after a refusal
}

// topicCall is one call that waits until topics are followed.
type topicCall struct {
	missing map[envelope.SessionID]bool
	done    chan error // gets one value
}

func newTopics() topics {
	return topics{wanted: make(map[envelope.SessionID]subscription), asked: make(map[string][]envelope.SessionID)}
}

// next returns a frame to be written now, or nil and when there will be one
// (zero: none is waiting). Where a topic goes on is in cursors.
func (t *topics) next(now time.Time, in *received, epoch string) (frame []byte, due time.Time) {
	if len(t.undone) > 0 {
		some := min(len(t.undone), envelope.MaxTopics)
		f := envelope.Control{Control: envelope.ControlUnsubscribe, Topics: t.undone[:some]}
		t.undone = t.undone[some:]
		return f.AppendJSON(nil), time.Time{}
	}
	f := envelope.Control{Control: envelope.ControlSubscribe, Epoch: epoch, Cursors: make(map[string]uint64)}
	for id, is := range t.wanted {
		if is == unsent && len(f.Topics) < envelope.MaxTopics {
			f.Topics = append(f.Topics, id)
		}
	}
	if len(f.Topics) == 0 || now.Before(t.notBefore) {
		if len(f.Topics) > 0 {
			due = t.notBefore
		}
		return nil, due
	}
	slices.Sort(f.Topics)
	for _, id := range f.Topics {
		t.wanted[id] = sent
		if pos := in.logs[id.Address()]; pos != nil {
			f.Cursors[id.Address().String()] = pos.handled
		}
	}
	f.ID = rand.Text()
	t.asked[f.ID] = f.Topics
	return f.AppendJSON(nil), time.Time{}
}

// followed takes the server's word that it has been told of topics.
func (t *topics) followed(frame string) {
	for _, id := range t.asked[frame] {
		if t.wanted[id] == sent {
			t.wanted[id] = answered
			t.settle(id, nil)
		}
	}
	delete(t.asked, frame)
}

// refused takes the refusal of a frame, and reports whether the frame was of
// topics. What is refused for now is asked for again.
func (t *topics) refused(frame string, err *envelope.Error, now time.Time) bool {
	ids, ok := t.asked[frame]
	delete(t.asked, frame)
	for _, id := range ids {
		switch {
		case t.wanted[id] != sent:
		case err.Code.Retry():
			t.wanted[id] = unsent
		default:
			delete(t.wanted, id)
			t.settle(id, err)
		}
	}
	if ok && err.Code.Retry() {
		wait := time.Duration(err.RetryMS) * time.Millisecond
		if wait <= 0 {
			wait = topicRetry
		}
		t.notBefore = now.Add(wait)
	}
	return ok
}

// settle ends the calls that have waited for a topic, and for no other one or
// with an error.
func (t *topics) settle(id envelope.SessionID, err error) {
	t.calls = slices.DeleteFunc(t.calls, func(call *topicCall) bool {
		if !call.missing[id] {
			return false
		}
		delete(call.missing, id)
		over := err != nil || len(call.missing) == 0
		if over {
			call.done <- err
		}
		return over
	})
}

// connected makes everything be said again.
func (t *topics) connected() {
	t.undone, t.notBefore = nil, time.Time{}
	clear(t.asked)
	for id := range t.wanted {
		t.wanted[id] = unsent
	}
}

// Subscribe follows topics, whose ids begin with [envelope.TopicPrefix], until
// [Client.Unsubscribe] or the end of the client, and waits until the server does
// as it is told. Their messages come with all others. Of a topic that keeps what
// is said, a reconnect, or following it again, goes on behind what has been
// handled, and Options.OnGap is told if that is gone; what a topic does not keep
// is lost while there is no connection.
//
// When ctx is done first the topics are followed all the same. A refusal is an
// [*envelope.Error].
func (c *Client) Subscribe(ctx context.Context, ids ...envelope.SessionID) error {
	if err := envelope.CheckTopics(ids); err != nil {
		return err
	}
	call := &topicCall{missing: make(map[envelope.SessionID]bool), done: make(chan error, 1)}
	c.mu.Lock()
	if c.err != nil || c.closing {
		defer c.mu.Unlock()
		if c.err != nil {
			return c.err
		}
		return ErrClosed
	}
	for _, id := range ids {
		is, known := c.topics.wanted[id]
		if !known {
			c.topics.wanted[id] = unsent
		}
		if is != answered {
			call.missing[id] = true
		}
	}
	waits := len(call.missing) > 0
	if waits {
		c.topics.calls = append(c.topics.calls, call)
	}
	c.mu.Unlock()
	if !waits {
		return nil
	}
	signal(c.wake)
	signal(c.room) // the reader must not wait any more; see received.full
	select {
	case err := <-call.done:
		return err
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		c.topics.calls = slices.DeleteFunc(c.topics.calls, func(other *topicCall) bool { return other == call })
		return context.Cause(ctx)
	case <-c.done:
		return c.reason()
	}
}

// Unsubscribe takes back [Client.Subscribe]. It does not wait; messages that are
// on their way still come.
func (c *Client) Unsubscribe(ids ...envelope.SessionID) {
	c.mu.Lock()
	for _, id := range ids {
		if is, known := c.topics.wanted[id]; known {
			if is != unsent {
				c.topics.undone = append(c.topics.undone, id)
			}
			delete(c.topics.wanted, id)
			c.topics.settle(id, ErrUnsubscribed)
		}
	}
	c.mu.Unlock()
	signal(c.wake)
}
