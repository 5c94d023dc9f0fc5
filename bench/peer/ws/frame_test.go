package ws

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// appendServer appends a frame as a server sends it.
func appendServer(b []byte, first byte, payload []byte) []byte {
	b = append(b, first)
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n <= 0xFFFF:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

// collect returns a connection that is only a parser, and what it has read.
func collect() (*Conn, *[]string) {
	got := new([]string)
	return &Conn{message: func(_ *Conn, op byte, payload []byte) error {
		*got = append(*got, string('0'+rune(op))+string(payload))
		return nil
	}}, got
}

func TestMessages(t *testing.T) {
	big := strings.Repeat("b", 70_000)
	var in []byte
	in = appendServer(in, final|Text, []byte("one"))
	in = appendServer(in, final|Binary, []byte(strings.Repeat("t", 300)))
	in = appendServer(in, Text, []byte("in "))
	in = appendServer(in, final|opPong, nil) // control frames may come between fragments
	in = appendServer(in, opContinue, []byte("three "))
	in = appendServer(in, final|opContinue, []byte("parts"))
	in = appendServer(in, final|Text, []byte(big))
	in = appendServer(in, final|Text, nil)
	want := []string{"1one", "2" + strings.Repeat("t", 300), "1in three parts", "1" + big, "1"}

	for _, size := range []int{1, 7, 4096, len(in)} {
		c, got := collect()
		var rest []byte
		for part := range chunks(in, size) {
			rest = append(rest, part...)
			used, err := (*reader)(c).Read(rest)
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[used:]
		}
		if len(rest) > 0 || strings.Join(*got, "|") != strings.Join(want, "|") {
			t.Errorf("in parts of %d: %d messages, %d bytes left", size, len(*got), len(rest))
		}
	}
}

func chunks(b []byte, size int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(size, len(b))
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

func TestRefused(t *testing.T) {
	for name, in := range map[string][]byte{
		"masked":                        {final | Text, 0x80, 1, 2, 3, 4},
		"reserved bit":                  appendServer(nil, final|0x40|Text, nil),
		"unknown opcode":                appendServer(nil, final|0x3, nil),
		"ping in fragments":             appendServer(nil, opPing, nil),
		"continues nothing":             appendServer(nil, final|opContinue, []byte("x")),
		"a message within the last one": appendServer(appendServer(nil, Text, []byte("x")), final|Text, []byte("y")),
		"too long":                      {final | Text, 127, 0, 0, 0, 0, 0xFF, 0, 0, 0},
	} {
		c, _ := collect()
		if _, err := (*reader)(c).Read(in); !errors.Is(err, errProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClose(t *testing.T) {
	for _, tt := range []struct {
		payload string
		code    int
		reason  string
	}{{"", 1005, ""}, {"\x03\xe9bye", 1001, "bye"}} {
		c, _ := collect()
		_, err := (*reader)(c).Read(appendServer(nil, final|opClose, []byte(tt.payload)))
		if e, ok := errors.AsType[*CloseError](err); !ok || e.Code != tt.code || e.Reason != tt.reason {
			t.Errorf("%q: %v", tt.payload, err)
		}
	}
}

// unmask reads a client's frame.
func unmask(t *testing.T, b []byte) (op byte, payload []byte) {
	t.Helper()
	header, n := 2, int(b[1]&0x7F)
	switch n {
	case 126:
		header, n = 4, int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		header, n = 10, int(binary.BigEndian.Uint64(b[2:]))
	}
	if b[0]&final == 0 || b[1]&0x80 == 0 || len(b) != header+4+n {
		t.Fatalf("not one masked frame of %d bytes: %x", n, b[:min(len(b), 16)])
	}
	payload = bytes.Clone(b[header+4:])
	for i := range payload {
		payload[i] ^= b[header+i%4]
	}
	return b[0] & 0xF, payload
}

func TestFrames(t *testing.T) {
	key := [4]byte{1, 2, 3, 4}
	for _, size := range []int{0, 1, 7, 8, 125, 126, 200, 65535, 65536, 100_000} {
		want := bytes.Repeat([]byte("payload."), size/8+1)[:size]
		frame := appendFrame([]byte("before"), Text, key, func(b []byte) []byte { return append(b, want...) })
		rest, ok := bytes.CutPrefix(frame, []byte("before"))
		if !ok {
			t.Fatal("what was there has changed")
		}
		if op, got := unmask(t, rest); op != Text || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: opcode %d, %d bytes", size, op, len(got))
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(appendServer(appendServer(nil, Text, []byte("a")), final|opContinue, []byte("b")), 3)
	f.Add([]byte{final | Text, 126, 0}, 1)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		for i := 0; i < len(in); i++ { // what asks for an answer needs a socket
			if in[i]&0xF == opPing {
				in[i]++
			}
		}
		whole, once := collect()
		used, err := (*reader)(whole).Read(in)
		if used > len(in) {
			t.Fatalf("%d of %d bytes used", used, len(in))
		}
		// The same bytes in two parts give the same messages.
		parts, twice := collect()
		cut = min(max(cut, 0), len(in))
		first, err1 := (*reader)(parts).Read(in[:cut:cut])
		if err1 == nil {
			_, err1 = (*reader)(parts).Read(in[first:])
		}
		if (err == nil) != (err1 == nil) || strings.Join(*once, "|") != strings.Join(*twice, "|") {
			t.Errorf("%q, %v in one; %q, %v in two", *once, err, *twice, err1)
		}
	})
}
