package node

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// A client of a loop is pinged. One that answers stays, be it late; one that does not
// loses its connection.
func TestPulse(t *testing.T) {
	const ping, pong = 20 * time.Millisecond, pongSoon + 2*time.Second
	m := newMesh(t, 1, func(c *Config) { c.Timing.Ping, c.Timing.Pong = ping, pong }, false)
	defer m.close()
	where := m.listenLooped("a")

	var answering sync.WaitGroup
	defer answering.Wait()
	answer := func(id string, after time.Duration) (answered *atomic.Int32, end func() error) {
		client, in := m.dialLooped(where, id, "topic:t")
		answered = new(atomic.Int32)
		answering.Go(func() {
			for {
				op, payload, err := readFrame(in)
				if err != nil {
					return
				}
				if op == 9 {
					time.Sleep(after)
					_, _ = client.Write(append([]byte{0x8a, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...))
					answered.Add(1)
				}
			}
		})
		return answered, client.Close
	}
	prompt, end := answer("prompt", 0)
	defer end()
	late, end := answer("late", pongSoon+time.Second) // after the first look
	defer end()

	silent, unheard := m.dialLooped(where, "silent", "topic:t")
	defer silent.Close()
	began := time.Now()
	for {
		if _, _, err := readFrame(unheard); err != nil {
			break
		}
	}
	if took := time.Since(began); took < pong || took > 5*pong {
		t.Errorf("who does not answer is cut off after %v", took)
	}
	m.within(time.Minute, "three pings are answered at once", func() bool { return prompt.Load() >= 3 })
	m.within(time.Minute, "two pings are answered late", func() bool { return late.Load() >= 2 })
	for _, id := range []envelope.NodeID{"prompt", "late"} {
		if m.at("a").conns.device(id) == nil {
			t.Errorf("%s is gone", id)
		}
	}
	m.within(time.Minute, "who is silent is forgotten", func() bool { return m.at("a").conns.device("silent") == nil })
}

// Connections are pinged in slots from the first ping on, not all in one.
func TestPingSlots(t *testing.T) {
	m := newMesh(t, 1, nil, false)
	defer m.close()
	where := m.listenLooped("a")
	slots := make(map[time.Duration]int)
	const n = 20
	for i := range n {
		conn, _ := m.dialLooped(where, fmt.Sprint("device", i), "topic:t")
		defer conn.Close()
		c := m.at("a").conns.device(envelope.NodeID(fmt.Sprint("device", i)))
		c.mu.Lock()
		slots[c.due.ping]++
		c.mu.Unlock()
	}
	for at := range slots {
		if at%pingSlot != 0 || at > m.at("a").alarms.now()+m.at("a").timing.Ping+pingSlot {
			t.Errorf("a ping is due at %v", at)
		}
	}
	if len(slots) == 1 {
		t.Error("all are pinged at once")
	}
}
