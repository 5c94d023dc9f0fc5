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

// alarm is when a connection is to be called next.
type alarm struct {
	at time.Duration
	c  *conn
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
	switch i := int(c.alarm) - 1; {
	case c.alarm < 0: // it has ended while it was called
		return
	case c.alarm == 0:
		heap.Push(&a.line, alarm{at, c})
	case a.line[i].at == at:
		return
	default:
		a.line[i].at = at
		heap.Fix(&a.line, i)
	}
	if a.line[0].c == c {
		poke(a.kick)
	}
}

// remove forgets c for good. Who calls it at that moment does so to the end.
func (a *alarms) remove(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.alarm > 0 {
		heap.Remove(&a.line, int(c.alarm)-1)
	}
	c.alarm = -1
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
// there is one. It is returned until set says otherwise.
func (a *alarms) next() (c *conn, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.line) == 0 {
		return nil, time.Hour
	}
	first := a.line[0]
	if wait = first.at - a.now(); wait > 0 {
		return nil, min(wait, time.Hour)
	}
	return first.c, 0
}

// alarmLine is alarms, the earliest first: a [heap.Interface]. Times stand beside each other,
// because to look at them in the connections would cost more than all else here.
type alarmLine []alarm

func (l alarmLine) Len() int           { return len(l) }
func (l alarmLine) Less(i, j int) bool { return l[i].at < l[j].at }

func (l alarmLine) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].c.alarm, l[j].c.alarm = int32(i)+1, int32(j)+1
}

func (l *alarmLine) Push(a any) {
	*l = append(*l, a.(alarm))
	a.(alarm).c.alarm = int32(len(*l))
}

func (l *alarmLine) Pop() any {
	last := len(*l) - 1
	a := (*l)[last]
	(*l)[last] = alarm{}
	*l = (*l)[:last]
	a.c.alarm = 0
	return a
}
