package server

import (
	"bufio"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// letIn takes over what asks for it, and echoes what comes in.
func letIn(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/ws-panic":
		panic("for the test")
	case r.Header.Get("Upgrade") == "":
		http.Error(w, "from "+r.RemoteAddr, http.StatusForbidden)
		return
	}
	w.Header().Set("Upgrade", "echo")
	w.WriteHeader(http.StatusSwitchingProtocols)
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer c.Close()
	var buf [512]byte
	for n := 0; err == nil; {
		if n, err = rw.Reader.Read(buf[:]); err == nil {
			_, err = c.Write(buf[:n])
		}
	}
}

func startSifted(tb testing.TB, sifted bool) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	nowhere := log.New(io.Discard, "", 0)
	srv := &http.Server{Handler: http.HandlerFunc(letIn), ErrorLog: nowhere, MaxHeaderBytes: maxHeaderBytes}
	tb.Cleanup(func() { _ = srv.Close() })
	inner := l
	if sifted {
		inner = sift(l, srv.Handler, nowhere)
	}
	go func() { _ = srv.Serve(inner) }()
	return l.Addr().String()
}

func dial(tb testing.TB, address string) net.Conn {
	c, err := net.Dial("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// What is no handshake is answered as it was; so is one that is refused.
func TestHandshakesRefused(t *testing.T) {
	address := startSifted(t, true)
	large := "X: " + strings.Repeat("x", maxHeaderBytes) + "\r\n"
	for _, tt := range []struct {
		name, request string
		status        int // 0: closed without an answer
		body          string
	}{
		{"another call", "GET /v1/x HTTP/1.1\r\nHost: h\r\n\r\n", 403, "from 127.0.0.1:"},
		{"less than can be looked at", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 403, "from 127.0.0.1:"},
		{"a handshake of nothing", "GET /ws HTTP/1.1\r\nHost: h\r\n\r\n", 403, "from 127.0.0.1:"},
		{"one with a query", "GET /ws?token=x HTTP/1.1\r\nHost: h\r\n\r\n", 403, "from 127.0.0.1:"},
		{"no HTTP", "GET /ws and more\r\n\r\n", 400, ""},
		{"a large header", "GET /ws HTTP/1.1\r\n" + large + large + "\r\n", 431, ""},
		{"a panic", "GET /ws-panic HTTP/1.1\r\nHost: h\r\n\r\n", 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, address)
			go func() { _, _ = io.WriteString(c, tt.request) }()
			answer, err := http.ReadResponse(bufio.NewReader(c), nil)
			if tt.status == 0 {
				if err == nil {
					t.Fatalf("answered %d", answer.StatusCode)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if answer.StatusCode != tt.status || err != nil || !strings.Contains(string(body), tt.body) || answer.Header.Get("Date") == "" {
				t.Errorf("%d %v %q, %v", answer.StatusCode, answer.Header, body, err)
			}
		})
	}
}

// Whoever is let in has all that came behind the handshake, with it or later.
func TestHandshakeWithMore(t *testing.T) {
	address := startSifted(t, true)
	for _, early := range []string{"", "early", strings.Repeat("much ", 1000)} {
		c := dial(t, address)
		_, _ = io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: echo\r\n\r\n"+early)
		in := bufio.NewReader(c)
		answer, err := http.ReadResponse(in, nil)
		if err != nil || answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Upgrade") != "echo" {
			t.Fatalf("%v, %v", answer, err)
		}
		_, _ = io.WriteString(c, "later")
		got := make([]byte, len(early+"later"))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != early+"later" {
			t.Errorf("%q came back, %v", got, err)
		}
	}
}

// Who closes the listener has no others waiting.
func TestHandshakesEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := sift(l, http.NotFoundHandler(), log.New(io.Discard, "", 0))
	c := dial(t, l.Addr().String())
	_ = s.Close()
	if _, err := s.Accept(); err == nil {
		t.Error("something was accepted")
	}
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n\r\n")
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes of an answer", n)
	}
}

// BenchmarkHandshake is connections that are let in and go again, with their
// clients, by net/http and past it.
func BenchmarkHandshake(b *testing.B) {
	for name, sifted := range map[string]bool{"http": false, "past": true} {
		b.Run(name, func(b *testing.B) {
			address := startSifted(b, sifted)
			answer := make([]byte, 1<<10)
			b.ReportAllocs()
			for b.Loop() {
				c, err := net.Dial("tcp", address)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: echo\r\n\r\n")
				if _, err := c.Read(answer); err != nil {
					b.Fatal(err)
				}
				_ = c.Close()
			}
		})
	}
}
