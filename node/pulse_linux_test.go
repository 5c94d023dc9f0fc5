package node

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A client of a loop is pinged. One that answers stays, one that does not loses
// its connection.
func TestPulse(t *testing.T) {
	const ping, pong = 20 * time.Millisecond, time.Second
	m := newMesh(t, 1, func(c *Config) { c.Timing.Ping, c.Timing.Pong = ping, pong }, false)
	defer m.close()
	where := m.listenLooped("a")

	alive, in := m.dialLooped(where, "alive", "topic:t")
	var answered atomic.Int32
	var answering sync.WaitGroup
	defer answering.Wait()
	defer alive.Close()
	answering.Go(func() {
		for {
			op, payload, err := readFrame(in)
			if err != nil {
				return
			}
			if op == 9 {
				_, _ = alive.Write(append([]byte{0x8a, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...))
				answered.Add(1)
			}
		}
	})

	silent, unheard := m.dialLooped(where, "silent", "topic:t")
	defer silent.Close()
	began := time.Now()
	for {
		if _, _, err := readFrame(unheard); err != nil {
			break
		}
	}
	if took := time.Since(began); took < pong || took > 20*pong {
		t.Errorf("who does not answer is cut off after %v", took)
	}
	m.within(time.Minute, "three pings are answered", func() bool { return answered.Load() >= 3 })
	if m.at("a").conns.device("alive") == nil {
		t.Error("who answers is gone")
	}
	m.within(time.Minute, "who is silent is forgotten", func() bool { return m.at("a").conns.device("silent") == nil })
}
