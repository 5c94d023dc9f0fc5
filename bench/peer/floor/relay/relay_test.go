//go:build linux

package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in            string
		tag, to, body string
		bad           bool
	}{
		{in: "Hbob", to: "bob"},
		{in: "Hbob news more", to: "bob", body: "news more"},
		{in: "Ubob hello there", to: "bob", body: "hello there"},
		{in: "D17 bob hello", tag: "17", to: "bob", body: "hello"},
		{in: "D17", bad: true},
		{in: "", bad: true},
		{in: "U", bad: true},
		{in: "Xbob", bad: true},
	} {
		m, err := parse([]byte(tt.in))
		if (err != nil) != tt.bad {
			t.Errorf("%q: %v", tt.in, err)
		} else if err == nil && (string(m.tag) != tt.tag || string(m.to) != tt.to || string(m.body) != tt.body) {
			t.Errorf("%q: %q %q %q", tt.in, m.tag, m.to, m.body)
		}
	}
}

func TestRelay(t *testing.T) {
	r := newRelay[int]()
	r.join(1, "alice", []string{"news"})
	r.join(2, "bob", []string{"news", "more"})
	to := func(in string) []int {
		m, err := parse([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		return r.recipients(nil, m)
	}
	check := func(in string, want ...int) {
		t.Helper()
		if got := to(in); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", in, got, want)
		}
	}
	check("Ubob x", 2)
	check("Ucarol x")
	check("Tnews x", 1, 2)
	check("Tmore x", 2)
	r.join(3, "bob", nil) // comes again before the old connection has ended
	r.leave(2, "bob", []string{"news", "more"})
	check("Ubob x", 3)
	check("Tnews x", 1)
	check("Tmore x")
}

// The frames of RFC 6455, section 5.7, with the binary opcode.
func TestWebSocketNext(t *testing.T) {
	hello := "\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
	for _, tt := range []struct {
		in, want string
		size     int
		bad      bool
	}{
		{in: hello, want: "Hello", size: 11},
		{in: hello + hello, want: "Hello", size: 11},
		{in: hello[:10]},
		{in: ""},
		{in: "\x82\xfe\x01\x00\x00\x00\x00\x00" + strings.Repeat("y", 256), want: strings.Repeat("y", 256), size: 264},
		{in: "\x82\xfe\x01"},
		{in: "\x82\xff\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00" + strings.Repeat("y", 256), want: strings.Repeat("y", 256), size: 270},
		{in: "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", bad: true},
		{in: "\x82\x05Hello", bad: true},                 // not masked
		{in: "\x02\x85\x37\xfa\x21\x3d", bad: true},      // a fragment
		{in: "\x81\x85\x37\xfa\x21\x3dxxxxx", bad: true}, // text
	} {
		got, size, err := webSocket{}.next([]byte(tt.in))
		if string(got) != tt.want || size != tt.size || (err != nil) != tt.bad {
			t.Errorf("%q: %q, %d, %v", tt.in, got, size, err)
		}
	}
}

// The handshake of RFC 6455, section 1.3.
func TestWebSocketOpen(t *testing.T) {
	request := "GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	for cut := range len(request) {
		if answer, used, err := (webSocket{}).open([]byte(request[:cut])); answer != nil || used != 0 || err != nil {
			t.Fatalf("%q: %q, %d, %v", request[:cut], answer, used, err)
		}
	}
	answer, used, err := webSocket{}.open([]byte(request + "more"))
	if !bytes.Contains(answer, []byte("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) || used != len(request) || err != nil {
		t.Errorf("%q, %d, %v", answer, used, err)
	}
	if _, _, err := (webSocket{}).open([]byte("GET / HTTP/1.1\r\n\r\n")); err == nil {
		t.Error("no key, and no error")
	}
}

func TestFramingThereAndBack(t *testing.T) {
	for _, size := range []int{0, 1, 124, 125, 126, 65534, 65535, 65536} {
		body := bytes.Repeat([]byte("y"), size)
		out := webSocket{}.append(nil, delivery, body)
		// The client's frame is the same with a mask, which is 0 here.
		headers := map[bool]int{size < 125: 2, size >= 125 && size < 65535: 4, size >= 65535: 10}[true]
		in := slices.Concat(out[:headers], make([]byte, 4), out[headers:])
		in[1] |= 0x80
		message, n, err := webSocket{}.next(in)
		if err != nil || n != len(in) || !bytes.Equal(message[1:], body) {
			t.Errorf("WebSocket, %d bytes: %d of %d, %v", size, n, len(in), err)
		}
		out = tcp{}.append(nil, delivery, body)
		if message, n, err := (tcp{}).next(out); err != nil || n != len(out) || !bytes.Equal(message[1:], body) {
			t.Errorf("TCP, %d bytes: %d, %v", size, n, err)
		}
	}
}
