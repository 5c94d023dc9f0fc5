package loop

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/coder/websocket"
)

// FuzzText: whatever a client says, what is read by Text, and by the library from
// where Text leaves it to that, are the messages that the library reads alone.
func FuzzText(f *testing.F) {
	text, pong := masked(opText, true, []byte("hello")), masked(opPong, true, nil)
	unmasked, reserved := []byte{0x81, 1, 'x', 0, 0, 0, 0}, masked(opText, true, []byte("x"))
	reserved[0] |= 0x40
	for _, parts := range [][][]byte{
		{text, pong, text},
		{pong, masked(opPing, true, []byte("1")), text},
		{text, unmasked},
		{pong, reserved, text},
		{masked(opText, false, []byte("a")), pong, masked(0, true, []byte("b")), text},
		{masked(opText, true, make([]byte, 300)), text[:8]},
		{masked(opText, true, make([]byte, maxWhole)), pong, text},
		{masked(2, true, []byte("b")), text},
		{text, masked(opClose, true, []byte{3, 232}), text},
		{pong[:4]},
		{masked(opPong, true, []byte("1")), text},
	} {
		f.Add(slices.Concat(parts...))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		want := messages(t, bytes.NewReader(bytes.Clone(in)))
		c := &Conn{in: bytes.Clone(in), end: io.EOF}
		var got []string
		for {
			text, err := c.Text()
			if errors.Is(err, ErrOther) {
				got = append(got, messages(t, c)...)
			}
			if err != nil {
				break
			}
			got = append(got, string(text))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// messages returns the messages that the library reads.
func messages(t *testing.T, from io.Reader) (all []string) {
	ws, err := websocket.Accept(&silent{header: make(http.Header), from: from}, &http.Request{
		Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
			"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1)
	for {
		_, text, err := ws.Read(context.Background())
		if err != nil {
			return all
		}
		all = append(all, string(text))
	}
}

// silent is a connection that hears and says nothing.
type silent struct {
	net.Conn
	header http.Header
	from   io.Reader
}

func (s *silent) Header() http.Header         { return s.header }
func (s *silent) WriteHeader(int)             {}
func (s *silent) Read(p []byte) (int, error)  { return s.from.Read(p) }
func (s *silent) Write(p []byte) (int, error) { return len(p), nil }
func (s *silent) Close() error                { return nil }

// Hijack implements [http.Hijacker].
func (s *silent) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return s, bufio.NewReadWriter(bufio.NewReader(s), bufio.NewWriter(s)), nil
}
