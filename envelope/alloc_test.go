package envelope

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"
)

// frame is one from a client, of about n bytes.
func frame(n int) []byte {
	return fmt.Appendf(nil, `{"id":"0123456789abcdef","dest_id":"bob-phone","class":"volatile","type":1,"payload":"%s","x":[1,{"a":null}]}`, strings.Repeat("x", n))
}

// What a message costs in allocations is pinned: who adds one finds out here.
func TestAllocations(t *testing.T) {
	var p Parser
	buf := make([]byte, 0, 4<<10)
	short, long := frame(100), frame(keepTogether)
	escaped := []byte(`{"dest_id":"b","payload":"\"\u00e9\" Ωω"}`)
	control := []byte(`{"control":"ack","cursors":{}}`)
	e, err := p.Parse(short)
	if err != nil {
		t.Fatal(err)
	}
	e.SrcNode, e.SrcClient, e.Timestamp, e.Seq = "alice", "al", 1<<40, 7
	stored := e.AppendBinary(nil)
	log := NodeID("bob").Address()
	heads := map[Address]uint64{log: 7, SessionID("r").Address(): 9}
	for _, tt := range []struct {
		name string
		most float64
		f    func()
	}{
		{"parse", 1, func() { _, _ = p.Parse(short) }},
		{"parse, escapes and other alphabets", 1, func() { _, _ = p.Parse(escaped) }},
		{"parse with its envelope", 1, func() { _, _ = p.ParseNew(short) }},
		{"parse a long one", 3, func() { _, _ = p.Parse(long) }}, // its ids on their own
		{"find out that it is a control frame", 0, func() { _, _ = p.Parse(control) }},
		{"message", 0, func() { _ = e.AppendJSON(buf) }},
		{"request", 0, func() { _ = e.AppendRequest(buf) }},
		{"binary", 0, func() { _ = e.AppendBinary(buf) }},
		{"parse binary", 1, func() { _, _, _ = ParseBinary(stored) }},
		{"digest", 0, func() { _ = e.Digest() }},
		{"a member of the body", 0, func() { _, _ = e.Member("x") }},
		{"ack", 0, func() {
			w := NewControl(buf, ControlAck)
			w.ID("id", e.ID)
			w.Seq("seq", 7)
			w.Log("log", log)
			_ = w.End()
		}},
		{"positions", 0, func() {
			w := NewControl(buf, ControlCaughtUp)
			w.Positions("heads", heads)
			_ = w.End()
		}},
		{"text", 0, func() {
			w := NewControl(buf, ControlNack)
			w.Text("detail", "it says \"no\", and more than thirty-two bytes of it")
			_ = w.End()
		}},
	} {
		if got := testing.AllocsPerRun(100, tt.f); got > tt.most {
			t.Errorf("%s: %v allocations, want at most %v", tt.name, got, tt.most)
		}
	}
}

// Neither does the body reach into the ids that are kept behind it, nor is an id
// of a long frame kept with the body, which it would hold in memory.
func TestKept(t *testing.T) {
	for _, n := range []int{0, 100, shortFrame, keepTogether} {
		var p Parser
		text := frame(n)
		e, err := p.ParseNew(text)
		if err != nil {
			t.Fatal(err)
		}
		body, id := uintptr(unsafe.Pointer(unsafe.SliceData(e.Body))), uintptr(unsafe.Pointer(unsafe.StringData(e.ID)))
		if beside := body <= id && id < body+uintptr(len(text)); beside != (len(text) <= keepTogether) {
			t.Errorf("%d bytes: the id is beside the body: %v", len(text), beside)
		}
		_ = append(e.Body, strings.Repeat("!", 1000)...)
		if e.ID != "0123456789abcdef" || e.DestNode != "bob-phone" {
			t.Errorf("%d bytes: id %q to %q", len(text), e.ID, e.DestNode)
		}
	}
}

// A parcel is as long as one of the allocator's sizes, so that nothing is lost.
func TestParcelSize(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("words of another size")
	}
	if size := unsafe.Sizeof(parcel{}); size != 448 {
		t.Errorf("%d bytes, want 448: change shortFrame with Envelope", size)
	}
}
