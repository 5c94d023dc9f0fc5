package node

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// alarms call connections when something is due of them: a ping, the end of a
// credential. One goroutine with one timer does it for all; a timer and a goroutine
// for each would be a quarter of what an idle connection costs.
type alarms struct {
	began time.Time     // static; times are since then
	kick  chan struct{} // holds a token when the first alarm is earlier than it was

	mu   sync.Mutex
	line alarmLine // guarded by mu
}

// alarm is when a connection is to be called next. Its fields are guarded by
// alarms.mu.
type alarm struct {
	at    time.Duration
	place int // in alarms.line, counted from 1; 0: it is not there; -1: and will not be again
}

// never is when nothing is due.
const never time.Duration = 1<<63 - 1

func newAlarms(began time.Time) *alarms {
	return &alarms{began: began, kick: make(chan struct{}, 1)}
}

func (a *alarms) now() time.Duration { return time.Since(a.began) }

// set says when c is to be called next. It may be called within conn.mu.
func (a *alarms) set(c *conn, at time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c.alarm.at = at
	switch {
	case c.alarm.place < 0: // it has ended while it was called
		return
	case c.alarm.place == 0:
		heap.Push(&a.line, c)
	default:
		heap.Fix(&a.line, c.alarm.place-1)
	}
	if a.line[0] == c {
		select {
		case a.kick <- struct{}{}:
		default:
		}
	}
}

// remove forgets c for good. Who calls it at that moment does so to the end.
func (a *alarms) remove(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.alarm.place > 0 {
		heap.Remove(&a.line, c.alarm.place-1)
	}
	c.alarm.place = -1
}

// run calls connections until ctx ends.
func (a *alarms) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		c, wait := a.next()
		if c != nil {
			c.ring()
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-a.kick:
		case <-ctx.Done():
			return
		}
	}
}

// next returns a connection that is to be called now, or nil and how long until
// there is one. It is not returned again before set is called.
func (a *alarms) next() (c *conn, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.line) == 0 {
		return nil, time.Hour
	}
	c = a.line[0]
	if wait = c.alarm.at - a.now(); wait > 0 {
		return nil, min(wait, time.Hour)
	}
	c.alarm.at = never
	heap.Fix(&a.line, 0)
	return c, 0
}

// alarmLine is connections by their alarms, the earliest first: a [heap.Interface].
type alarmLine []*conn

func (l alarmLine) Len() int           { return len(l) }
func (l alarmLine) Less(i, j int) bool { return l[i].alarm.at < l[j].alarm.at }

func (l alarmLine) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].alarm.place, l[j].alarm.place = i+1, j+1
}

func (l *alarmLine) Push(c any) {
	*l = append(*l, c.(*conn))
	c.(*conn).alarm.place = len(*l)
}

func (l *alarmLine) Pop() any {
	last := len(*l) - 1
	c := (*l)[last]
	(*l)[last] = nil
	*l = (*l)[:last]
	c.alarm.place = 0
	return c
}
