package node

import (
	"testing"
	"time"
)

// No sign of life comes between what was dropped and the word that something was.
func TestBeatBehindDropped(t *testing.T) {
	l := &link{told: time.Second, toldAt: time.Now(), wakeup: make(chan struct{}, 1), flusher: new(flusher)}
	if !l.send(recordRefresh, make([]byte, linkQueueBytes-200)) {
		t.Fatal("there is no room")
	}
	if l.send(recordRefresh, make([]byte, 190)) {
		t.Fatal("there is room for everything")
	}
	l.beat(make([]byte, 20), false)
	if len(l.ends) != 1 {
		t.Errorf("%d records wait", len(l.ends))
	}
}
