package stream

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

func TestAppendEvent(t *testing.T) {
	for _, test := range []struct{ frame, want string }{
		{`{"a":1}`, "event: message\ndata: {\"a\":1}\n"},
		{"{\"a\":\n1}", "event: message\ndata: {\"a\":\ndata: 1}\n"},
		{"{\"a\":\r\n\r1}", "event: message\ndata: {\"a\":\ndata: \ndata: \ndata: 1}\n"},
	} {
		if got := string(appendEvent(nil, "message", []byte(test.frame))); got != test.want {
			t.Errorf("%q is sent as %q, want %q", test.frame, got, test.want)
		}
	}
}

// slowCore lets each connection be for three minutes and then says one thing.
// What is tested is the transport over a server with time limits.
type slowCore struct {
	gateway.Core
	t testing.TB
}

func (slowCore) Admit() error                      { return nil }
func (slowCore) Self() (envelope.ServerID, string) { return "a", "boot" }
func (slowCore) Refused(envelope.Code)             {}

func (c slowCore) Serve(_ context.Context, _ envelope.Principal, t gateway.Transport, _ gateway.Codec, _ gateway.Options) {
	hello, err := t.Read()
	if err != nil || string(hello) != `{"control":"hello","cursors":{"node:bob":3},"epoch":"E"}` {
		c.t.Errorf("read %s, %v", hello, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(3 * time.Minute)
		if err := t.Write([]byte(`{"dest_id":"bob","seq":4}`)); err != nil {
			c.t.Errorf("write: %v", err)
		}
		t.Close(envelope.GoingAway, "bye")
		t.Abort()
	}()
	start := time.Now()
	if frame, err := t.Read(); err == nil || time.Since(start) < 3*time.Minute {
		c.t.Errorf("read %q, %v after %v", frame, err, time.Since(start))
	}
	<-done
	// Others may still hold on to the transport; the response is not theirs.
	time.AfterFunc(time.Second, t.Abort)
}

// The time limits of an HTTP server do not cut a stream, and a stream that was
// ends as a response should: the next request goes over the same connection.
func TestServerTimeLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		verifier, err := auth.NewVerifier(t.Context(), auth.Config{Keys: []auth.KeySource{{Secret: auth.Secret("a token secret for tests, long enough")}}})
		if err != nil {
			t.Fatal(err)
		}
		defer verifier.Close()
		key, err := auth.Mint(auth.MintKey{Secret: auth.Secret("a token secret for tests, long enough")}, auth.Claims{
			Client: "bob", Node: "bob", Issued: time.Now(), Expires: time.Now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		mux := http.NewServeMux()
		(&Handler{
			Core: slowCore{t: t}, Verifier: verifier, Codec: func() gateway.Codec { return nil },
			Log: slog.New(slog.DiscardHandler), Context: t.Context(),
		}).Register(mux)
		network := new(clienttest.Network)
		server := &http.Server{Handler: mux, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second}
		listener := network.Listen("a:80")
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		defer func() { _ = server.Close(); <-served }()

		transport := network.Client().Transport.(*http.Transport)
		transport.DisableKeepAlives = false
		c, dials := &http.Client{Transport: transport}, 0
		defer c.CloseIdleConnections()
		dial := transport.DialContext
		transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			return dial(ctx, network, addr)
		}
		for range 2 {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://a/v1/stream", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+key)
			r.Header.Set("Last-Event-ID", "E~nbob~3")
			resp, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			lines := bufio.NewScanner(resp.Body)
			for lines.Scan() {
				if line := lines.Text(); line != "" && line != ":" {
					got = append(got, line)
				}
			}
			want := `retry: 1000|event: message|data: {"dest_id":"bob","seq":4}|id: E~nbob~4|` +
				`event: close|data: {"close_code":1001,"code":"going_away","detail":"bye"}`
			if lines.Err() != nil || strings.Join(got, "|") != want {
				t.Errorf("got %q, %v", got, lines.Err())
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			time.Sleep(2 * time.Second) // beyond the late Abort
		}
		if dials != 1 {
			t.Errorf("%d connections for two streams", dials)
		}
	})
}
