package native

import (
	"testing"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// What a frame costs in allocations is pinned: who adds one finds out here.
func TestAllocations(t *testing.T) {
	c := NewCodec(false)
	message := []byte(`{"id":"1","dest_id":"bob-phone","class":"volatile","payload":"hi"}`)
	ack := []byte(`{"control":"ack","cursors":{"node:bob-phone":7}}`)
	buf := make([]byte, 0, 1<<10)
	for _, tt := range []struct {
		name string
		most float64
		f    func()
	}{
		{"decode a message", 1, func() { _, _, _ = c.Decode(message) }}, // what is kept of the frame
		{"decode an ack", 3, func() { _, _, _ = c.Decode(ack) }},        // the command, its list, the name in it
		{"message", 0, appending(c, buf, "message")},
		{"ack", 0, appending(c, buf, "ack")},
		{"nack", 0, appending(c, buf, "nack")},
		{"read", 0, appending(c, buf, "read")},
		{"receipt", 0, appending(c, buf, "seen")},
		{"presence", 0, appending(c, buf, "presence")},
		{"welcome", 0, appending(c, buf, "welcome")},
		{"caught up", 0, appending(c, buf, "caught_up")},
	} {
		if got := testing.AllocsPerRun(100, tt.f); got > tt.most {
			t.Errorf("%s: %v allocations, want at most %v", tt.name, got, tt.most)
		}
	}
}

func appending(c *Codec, buf []byte, event string) func() {
	ev := events()[event]
	return func() { _ = c.Append(buf, ev) }
}

func BenchmarkDecode(b *testing.B) {
	for _, frame := range []struct{ name, text string }{
		{"message", `{"id":"0123456789abcdef","dest_id":"bob-phone","class":"volatile","payload":"a payload of some length, as people type"}`},
		{"ack", `{"control":"ack","cursors":{"node:bob-phone":1234567}}`},
	} {
		b.Run(frame.name, func(b *testing.B) {
			c := NewCodec(false)
			text := []byte(frame.text)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := c.Decode(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	bob := envelope.NodeID("bob").Address()
	for _, ev := range []struct {
		name string
		gateway.Event
	}{
		{"message", events()["message"]},
		{"ack", gateway.Ack{ID: "0123456789abcdef", Seq: 1234567, Log: bob}},
		{"receipt", events()["seen"]},
		{"caught up", events()["caught_up"]},
	} {
		b.Run(ev.name, func(b *testing.B) {
			c := NewCodec(false)
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				buf = c.Append(buf[:0], ev.Event)
			}
		})
	}
}
