package node

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// TestFlusherLetsGo: who releases writes what waits by then, and not what another
// who holds brings meanwhile: his own connections would have to wait for it.
func TestFlusherLetsGo(t *testing.T) {
	var f flusher
	var before, meanwhile conn
	for _, c := range []*conn{&before, &meanwhile} {
		c.wg.Add(1)
		c.mu.Lock() // writing takes until it is unlocked
	}
	f.hold() // the other
	f.hold()
	f.add(&before)
	released := make(chan struct{})
	go func() {
		defer close(released)
		f.release()
	}()
	for taken := false; !taken; runtime.Gosched() {
		f.mu.Lock()
		taken = len(f.dirty) == 0
		f.mu.Unlock()
	}
	f.add(&meanwhile)
	before.mu.Unlock()
	select {
	case <-released:
	case <-time.After(10 * time.Second):
		t.Error("it is written by him")
	}
	meanwhile.mu.Unlock()
	f.release()
	<-released
	before.wg.Wait()
	meanwhile.wg.Wait()
}

// TestFlusherForgetsNone: whoever holds and releases, and when, each connection
// is written to.
func TestFlusherForgetsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flusher
		conns := make([]conn, 1000)
		for i := range 4 {
			go func() {
				for j := i; j < len(conns); j += 4 {
					if j%3 > 0 {
						f.hold()
					}
					conns[j].wg.Add(1)
					conns[j].writing = true
					f.add(&conns[j])
					if j%3 > 0 {
						f.release()
					}
				}
			}()
		}
		synctest.Wait()
		for i := range conns {
			if conns[i].writing {
				t.Fatalf("connection %d was not written to", i)
			}
		}
	})
}
