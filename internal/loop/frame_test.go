package loop

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// frame is one of a client, masked with zeros.
func frame(op byte, fin bool, payload []byte) []byte {
	if fin {
		op |= 0x80
	}
	b := []byte{op}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

func TestWhole(t *testing.T) {
	text, ping := frame(1, true, []byte("hello")), frame(9, true, []byte("x"))
	first, middle, last := frame(1, false, []byte("a")), frame(0, false, nil), frame(0, true, []byte("b"))
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, tt := range []struct {
		name   string
		in     []byte
		n      int
		large  bool
		within bool
	}{
		{"nothing", nil, 0, false, false},
		{"half a header", text[:1], 0, false, false},
		{"a frame", text, len(text), false, false},
		{"less than a frame", text[:len(text)-1], 0, false, false},
		{"two and a half", cat(text, ping, text[:4]), len(text) + len(ping), false, false},
		{"a message begun", cat(first, middle), len(first) + len(middle), false, true},
		{"a ping within", cat(first, ping), len(first) + len(ping), false, true},
		{"a message in fragments", cat(first, ping, middle, last), len(first) + len(ping) + len(middle) + len(last), false, false},
		{"as large as can be", frame(2, true, make([]byte, maxWhole-8)), maxWhole, false, false},
		{"larger", cat(text, frame(2, true, make([]byte, maxWhole))), len(text), true, false},
		{"the end of a large header", frame(2, true, make([]byte, maxWhole))[:9], 0, false, false},
		{"a negative length", []byte{0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, 0, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f frames
			n, large := f.whole(tt.in)
			if n != tt.n || large != tt.large || f.within != tt.within {
				t.Errorf("whole: %d, %v, within %v; want %d, %v, %v", n, large, f.within, tt.n, tt.large, tt.within)
			}
		})
	}
}

func TestSkipPongs(t *testing.T) {
	pong, text := frame(10, true, nil), frame(1, true, []byte("hello"))
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, tt := range []struct {
		name     string
		in, want []byte
	}{
		{"nothing", nil, nil},
		{"a pong", pong, nil},
		{"two, and a message", cat(pong, pong, text), text},
		{"behind a message", cat(text, pong), cat(text, pong)},
		{"half of one", pong[:5], pong[:5]},
		{"with data: the library may wait for it", frame(10, true, []byte("1")), frame(10, true, []byte("1"))},
		{"in fragments, which the library refuses", frame(10, false, nil), frame(10, false, nil)},
		{"not masked, which the library refuses", []byte{0x8a, 0, 0, 0, 0, 0}, []byte{0x8a, 0, 0, 0, 0, 0}},
	} {
		if got := skipPongs(tt.in); !bytes.Equal(got, tt.want) {
			t.Errorf("%s: %x is left, want %x", tt.name, got, tt.want)
		}
	}
}

// FuzzWhole: however input is cut, the same frames are found.
func FuzzWhole(f *testing.F) {
	f.Add(bytes.Join([][]byte{frame(1, true, []byte("hello")), frame(1, false, []byte("a")), frame(9, true, nil), frame(0, true, nil)}, nil), uint8(3))
	f.Add([]byte{0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		var once frames
		all, large := once.whole(in)
		if all > len(in) {
			t.Fatalf("%d of %d bytes are whole", all, len(in))
		}
		var pieces frames
		at, end := 0, 0
		for end < len(in) && !large {
			end = min(len(in), end+1+int(cut))
			n, big := pieces.whole(in[at:end])
			if at += n; big {
				t.Fatal("large in pieces only")
			}
		}
		if !large && (at != all || pieces != once) {
			t.Errorf("in pieces %d, %v; at once %d, %v", at, pieces, all, once)
		}
	})
}
