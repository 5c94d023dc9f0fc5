package mosquitto

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// collect parses in and writes down what it holds.
func collect(in []byte) (got []string, used int, err error) {
	used, err = parse(in, func(p packet) error {
		got = append(got, fmt.Sprintf("%d id %d code %d %s", p.kind>>4, p.id, p.code, p.body))
		return nil
	})
	return got, used, err
}

func TestParse(t *testing.T) {
	long := strings.Repeat("x", 200)
	publish := appendPublish(appendPublish(nil, "u/", "bob", 0, []byte("hello")), "u/", "bob", 7, []byte(long))
	for _, tt := range []struct {
		name string
		in   []byte
		want []string
		used int
		bad  bool
	}{
		{name: "nothing"},
		{name: "half a length", in: []byte{typePublish, 0x80}},
		{
			name: "answers", in: []byte{typeConnAck, 2, 1, 0, typeSubAck, 4, 0, 9, 1, 0x80, typePubAck, 2, 0, 7, typePingResp, 0}, used: 16,
			want: []string{"2 id 0 code 0 ", "9 id 9 code 128 ", "4 id 7 code 0 ", "13 id 0 code 0 "},
		},
		{name: "messages", in: publish, used: len(publish), want: []string{"3 id 0 code 0 hello", "3 id 7 code 0 " + long}},
		{name: "one and a half", in: publish[:len(publish)-1], used: 14, want: []string{"3 id 0 code 0 hello"}},
		{name: "a length of five bytes", in: []byte{typePublish, 0x80, 0x80, 0x80, 0x80, 1}, bad: true},
		{name: "a topic that is too long", in: []byte{typePublish, 3, 0, 5, 'a'}, bad: true},
		{name: "no packet id", in: []byte{typePublish | flagQoS1, 3, 0, 1, 'a'}, bad: true},
		{name: "a packet for servers", in: appendConnect(nil, "bob", true, 60), bad: true},
	} {
		got, used, err := collect(tt.in)
		if !slices.Equal(got, tt.want) || used != tt.used || (err != nil) != tt.bad {
			t.Errorf("%s: %q, %d, %v", tt.name, got, used, err)
		}
	}
}

// The packets of the examples in MQTT 3.1.1, sections 3.1.2.10 and 3.8.3.
func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		got  []byte
		want string
	}{
		{appendConnect(nil, "bob", true, 10), "\x10\x0f\x00\x04MQTT\x04\x02\x00\x0a\x00\x03bob"},
		{appendConnect(nil, "bob", false, 10), "\x10\x0f\x00\x04MQTT\x04\x00\x00\x0a\x00\x03bob"},
		{appendSubscribe(nil, 10, []string{"a/b", "c/d"}), "\x82\x0e\x00\x0a\x00\x03a/b\x01\x00\x03c/d\x01"},
		{appendPublish(nil, "a", "/b", 10, []byte("x")), "\x32\x08\x00\x03a/b\x00\x0ax"},
		{appendPubAck(nil, 10), "\x40\x02\x00\x0a"},
		{appendLength(nil, 16_383), "\xff\x7f"},
		{appendLength(nil, 16_384), "\x80\x80\x01"},
	} {
		if string(tt.got) != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}

// FuzzParse: the parser never uses more than there is, and input in two parts
// means the same as in one.
func FuzzParse(f *testing.F) {
	f.Add(appendPublish([]byte{typeConnAck, 2, 0, 0}, "u/", "bob", 7, []byte("hello")), 9)
	f.Add([]byte{typeSubAck, 3, 0, 1, 1, typePingResp, 0}, 3)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		in = bytes.Clone(in)
		whole, used, err := collect(in)
		if used > len(in) {
			t.Fatalf("used %d of %d", used, len(in))
		}
		if cut < 0 || cut > len(in) {
			return
		}
		parts, n, first := collect(in[:cut])
		if first != nil {
			return
		}
		more, m, second := collect(in[n:])
		if !slices.Equal(append(parts, more...), whole) || n+m != used || (second != nil) != (err != nil) {
			t.Fatalf("%q cut at %d: %q, %d", in, cut, append(parts, more...), n+m)
		}
	})
}
