package node

import (
	"testing"
	"time"
)

// A connection that ends while it is called is not kept.
func TestAlarmsForget(t *testing.T) {
	a := newAlarms(time.Now())
	ended, other := new(conn), new(conn)
	a.set(ended, 0)
	a.set(other, time.Hour)
	if c, _ := a.next(); c != ended {
		t.Fatal("it was not called")
	}
	a.remove(ended)
	a.set(ended, never) // as ring does in the end
	if len(a.line) != 1 || a.line[0].c != other {
		t.Errorf("%d are kept", len(a.line))
	}
}
