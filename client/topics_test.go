package client

import (
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// told reads the frame that is to be written now.
func told(t *testing.T, s *topics, in *received, now time.Time) envelope.Control {
	t.Helper()
	frame, _ := s.next(now, in, "E")
	if frame == nil {
		return envelope.Control{}
	}
	c, err := envelope.ParseControl(frame)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTopics(t *testing.T) {
	now := time.Now()
	in := newReceived(10, map[envelope.Address]uint64{envelope.SessionID("topic:a").Address(): 7})
	s := newTopics()
	want := func(ids ...envelope.SessionID) *topicCall {
		call := &topicCall{missing: make(map[envelope.SessionID]bool), done: make(chan error, 1)}
		for _, id := range ids {
			s.wanted[id], call.missing[id] = unsent, true
		}
		s.calls = append(s.calls, call)
		return call
	}
	outcome := func(call *topicCall) (err error, over bool) {
		select {
		case err := <-call.done:
			return err, true
		default:
			return nil, false
		}
	}
	both, one := want("topic:a", "topic:b"), want("topic:b")
	first := told(t, &s, &in, now)
	if len(first.Topics) != 2 || len(first.Cursors) != 1 || first.Cursors["session:topic:a"] != 7 || first.Epoch != "E" {
		t.Errorf("told %+v", first)
	}
	if c := told(t, &s, &in, now); c.Control != "" {
		t.Errorf("told twice: %+v", c)
	}
	if s.refused("another", &envelope.Error{Code: envelope.Busy}, now) {
		t.Error("took another's refusal")
	}
	if !s.refused(first.ID, &envelope.Error{Code: envelope.Busy, RetryMS: 300}, now) {
		t.Error("did not take the refusal")
	}
	if frame, due := s.next(now, &in, "E"); frame != nil || !due.Equal(now.Add(300*time.Millisecond)) {
		t.Errorf("told again at once, due %v", due)
	}
	now = now.Add(time.Second)
	second := told(t, &s, &in, now)
	s.connected() // and the answer never comes
	third := told(t, &s, &in, now)
	if len(third.Topics) != 2 || third.ID == second.ID {
		t.Errorf("told %+v", third)
	}
	s.followed(second.ID)
	if _, over := outcome(one); over {
		t.Error("answered by a connection before")
	}
	s.followed(third.ID)
	for _, call := range []*topicCall{both, one} {
		if err, over := outcome(call); !over || err != nil {
			t.Errorf("%v, %v", err, over)
		}
	}
	refused := want("topic:c", "topic:d")
	c := told(t, &s, &in, now)
	if len(c.Topics) != 2 || len(c.Cursors) != 0 {
		t.Errorf("told %+v", c)
	}
	s.refused(c.ID, &envelope.Error{Code: envelope.Forbidden}, now)
	if err, over := outcome(refused); !over || envelope.CodeOf(err) != envelope.Forbidden {
		t.Errorf("%v, %v", err, over)
	}
	if c := told(t, &s, &in, now); c.Control != "" || len(s.wanted) != 2 || len(s.calls) != 0 || len(s.asked) != 0 {
		t.Errorf("left: %+v, %+v", c, s)
	}
}
