package native

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/internal/loop"
)

// echoCore sends every frame back, as it is. What is tested is the transport.
type echoCore struct{ gateway.Core }

func (echoCore) Admit() error                      { return nil }
func (echoCore) Self() (envelope.ServerID, string) { return "a", "boot" }

func (echoCore) Serve(ctx context.Context, _ envelope.Principal, t gateway.Transport, _ gateway.Codec, _ gateway.Options) {
	stop := context.AfterFunc(ctx, t.Abort)
	if w, ok := t.(gateway.Waiter); ok {
		e := &evented{w, stop}
		w.Watch(e.readable)
		e.readable(false)
		return
	}
	defer stop()
	for {
		frame, err := t.Read()
		if err != nil {
			if e, ok := errors.AsType[*envelope.Error](err); ok {
				t.Close(e.Code, e.Detail)
			}
			t.Abort()
			return
		}
		if t.Write(frame) != nil {
			t.Abort()
			return
		}
	}
}

// evented is an echo without a goroutine: it answers inline, but long frames.
type evented struct {
	gateway.Waiter
	stop func() bool
}

func (e *evented) readable(inline bool) (kept bool) {
	for {
		frame, err := e.Read()
		switch {
		case errors.Is(err, gateway.ErrNothing) && (inline || e.Await()):
			return false
		case errors.Is(err, gateway.ErrNothing):
		case err != nil:
			if inline {
				e.Keep()
			}
			go func() {
				defer e.stop()
				if refusal, ok := errors.AsType[*envelope.Error](err); ok {
					e.Close(refusal.Code, refusal.Detail)
				}
				e.Abort()
			}()
			return true
		case inline && len(frame) > 100:
			frame = bytes.Clone(frame)
			e.Keep()
			go func() {
				_ = e.Write(frame)
				e.readable(false)
			}()
			return true
		default:
			_ = e.Write(frame) // an error comes of Read, too
		}
	}
}

const maxFrame = 64 << 10

// wireFrame is one frame of RFC 6455 as it is on the wire.
type wireFrame struct {
	op       byte // with the FIN bit and reserved bits
	payload  string
	unmasked bool
	claim    int // length in the header, if not that of the payload
}

const (
	fin   = 0x80
	text  = fin | 1
	bin   = fin | 2
	last  = fin // of a fragmented message
	close = fin | 8
	ping  = fin | 9
	pong  = fin | 10
)

func (f wireFrame) append(b []byte) []byte {
	n := uint64(len(f.payload))
	if f.claim != 0 {
		n = uint64(f.claim)
	}
	b = append(b, f.op)
	mask := byte(0x80)
	if f.unmasked {
		mask = 0
	}
	switch {
	case n < 126:
		b = append(b, mask|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, mask|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, mask|127), n)
	}
	if f.unmasked {
		return append(b, f.payload...)
	}
	key := [4]byte{1, 2, 3, 4}
	b = append(b, key[:]...)
	for i := range len(f.payload) {
		b = append(b, f.payload[i]^key[i%4])
	}
	return b
}

// readWire reads one frame of the server.
func readWire(r *bufio.Reader) (op byte, payload string, err error) {
	var h [2]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, "", err
	}
	n := uint64(h[1])
	switch n {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(r, b[:])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, err = io.ReadFull(r, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	if err != nil {
		return 0, "", err
	}
	buf := make([]byte, n)
	_, err = io.ReadFull(r, buf)
	return h[0], string(buf), err
}

func closePayload(code int, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason
}

// conversation is what a client says and what it should hear.
type conversation struct {
	name   string
	frames []wireFrame
	want   []string // t text, p pong
	close  []int    // acceptable statuses; none: it stays open, 0: ended without one
}

// conversations covers in spirit the cases 1 to 7, 9 and 10 of the Autobahn
// test suite with frames written by hand.
func conversations() []conversation {
	one := func(op byte, payload string) []wireFrame { return []wireFrame{{op: op, payload: payload}} }
	echo := func(payloads ...string) []string { // what comes back, by opcode letter and payload
		for i := range payloads {
			payloads[i] = "t" + payloads[i]
		}
		return payloads
	}
	long := strings.Repeat("ä", maxFrame/2)
	return []conversation{
		{"1 empty text", one(text, ""), echo(""), nil},
		{"1 125 bytes", one(text, strings.Repeat("*", 125)), echo(strings.Repeat("*", 125)), nil},
		{"1 126 bytes", one(text, strings.Repeat("*", 126)), echo(strings.Repeat("*", 126)), nil},
		{"1 128 bytes", one(text, strings.Repeat("*", 128)), echo(strings.Repeat("*", 128)), nil},
		{"1 65535 bytes", one(text, strings.Repeat("*", 65535)), echo(strings.Repeat("*", 65535)), nil},
		{"1 65536 bytes", one(text, strings.Repeat("*", 65536)), echo(strings.Repeat("*", 65536)), nil},
		{"1 binary is refused", one(bin, "x"), nil, []int{1003}},
		{"2 ping without payload", one(ping, ""), []string{"p"}, nil},
		{"2 ping with payload", one(ping, "hello"), []string{"phello"}, nil},
		{"2 ping of 125 bytes", one(ping, strings.Repeat("\xfe", 125)), []string{"p" + strings.Repeat("\xfe", 125)}, nil},
		{"2 ping of 126 bytes", one(ping, strings.Repeat("x", 126)), nil, []int{1002, 0}},
		{"2 unsolicited pong", []wireFrame{{op: pong, payload: "x"}, {op: text, payload: "y"}}, echo("y"), nil},
		{"2 ten pings", slicesRepeat(wireFrame{op: ping, payload: "x"}, 10), strings.Split(strings.Repeat("px ", 9)+"px", " "), nil},
		{"3 RSV1", one(text|0x40, "x"), nil, []int{1002, 0}},
		{"3 RSV2", one(text|0x20, "x"), nil, []int{1002, 0}},
		{"3 RSV3 after a good one", []wireFrame{{op: text, payload: "a"}, {op: text | 0x10, payload: "x"}}, echo("a"), []int{1002, 0}},
		{"3 RSV on a ping", one(ping|0x70, ""), nil, []int{1002, 0}},
		{"4 opcode 3", one(fin|3, ""), nil, []int{1002, 0}},
		{"4 opcode 7", one(fin|7, "x"), nil, []int{1002, 0}},
		{"4 opcode 11", one(fin|11, ""), nil, []int{1002, 0}},
		{"4 opcode 15", one(fin|15, "x"), nil, []int{1002, 0}},
		{"unmasked", []wireFrame{{op: text, payload: "x", unmasked: true}}, nil, []int{1002, 0}},
		{"5 fragmented ping", one(9, "x"), nil, []int{1002, 0}},
		{"5 two fragments", []wireFrame{{op: 1, payload: "a"}, {op: last, payload: "b"}}, echo("ab"), nil},
		{"5 ping between fragments", []wireFrame{{op: 1, payload: "a"}, {op: ping, payload: "x"}, {op: 0, payload: "b"}, {op: last, payload: "c"}}, []string{"px", "tabc"}, nil},
		{"5 empty fragments", []wireFrame{{op: 1}, {op: 0}, {op: last}}, echo(""), nil},
		{"5 continuation without a start", one(last, "x"), nil, []int{1002, 0}},
		{"5 text within a text", []wireFrame{{op: 1, payload: "a"}, {op: text, payload: "b"}}, nil, []int{1002, 0}},
		{"6 valid UTF-8", one(text, "Hello-µ@ßöäüàá-UTF-8!! κόσμε 😀"), echo("Hello-µ@ßöäüàá-UTF-8!! κόσμε 😀"), nil},
		{"6 fragmented within a code point", []wireFrame{{op: 1, payload: "\xce"}, {op: 0, payload: "\xba\xe1\xbd"}, {op: last, payload: "\xb9"}}, echo("\xce\xba\xe1\xbd\xb9"), nil},
		{"6 invalid", one(text, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"), nil, []int{1007}},
		{"6 invalid in a fragment", []wireFrame{{op: 1, payload: "ok"}, {op: last, payload: "\xf4\x90\x80\x80"}}, nil, []int{1007}},
		{"6 cut within a code point", one(text, "\xce\xba\xe1\xbd"), nil, []int{1007}},
		{"6 overlong", one(text, "\xc0\xaf"), nil, []int{1007}},
		{"6 surrogate", one(text, "\xed\xbf\xbf"), nil, []int{1007}},
		{"6 last code point", one(text, "\xf4\x8f\xbf\xbf"), echo("\xf4\x8f\xbf\xbf"), nil},
		{"6 non-character", one(text, "\xef\xbf\xbe"), echo("\xef\xbf\xbe"), nil},
		{"7 close 1000", one(close, closePayload(1000, "bye")), nil, []int{1000}},
		{"7 close without a code", one(close, ""), nil, []int{1005, 1000}},
		{"7 close with one byte", one(close, "x"), nil, []int{1002, 0}},
		{"7 close 3000", one(close, closePayload(3000, "")), nil, []int{3000}},
		{"7 close 4999", one(close, closePayload(4999, "")), nil, []int{4999}},
		{"7 close 999", one(close, closePayload(999, "")), nil, []int{1002, 0}},
		{"7 close 1005", one(close, closePayload(1005, "")), nil, []int{1002, 0}},
		{"7 close 5000", one(close, closePayload(5000, "")), nil, []int{1002, 0}},
		{"7 data after close", []wireFrame{{op: close, payload: closePayload(1000, "")}, {op: text, payload: "x"}}, nil, []int{1000}},
		{"9 as large as may be", one(text, long), echo(long), nil},
		{"9 in small fragments", fragments(strings.Repeat("*", 4096), 64), echo(strings.Repeat("*", 4096)), nil},
		{"9 too large", one(text, long+"x"), nil, []int{1009}},
		{"9 too large in fragments", fragments(strings.Repeat("x", maxFrame+1), 8<<10), nil, []int{1009}},
		{"9 too large and without end", []wireFrame{{op: text, payload: long + long, claim: 1 << 40}}, nil, []int{1009}},
		{"9 negative length", []wireFrame{{op: text, claim: -1 << 62}}, nil, []int{1002, 0}},
	}
}

func TestConformance(t *testing.T) {
	for _, c := range conversations() {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.hold(t, dialEcho(t, nil), 1<<30)
			})
		})
	}
}

// startLoops returns loops that end with the test, which is skipped where there are
// none.
func startLoops(t *testing.T) *loop.Loops {
	t.Helper()
	loops, err := loop.New(loop.Config{})
	if errors.Is(err, loop.ErrUnsupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(loops.Close)
	return loops
}

// TestConformanceInLoop is the same for connections without goroutines, with
// what the client says in one piece, and in small ones.
func TestConformanceInLoop(t *testing.T) {
	loops := startLoops(t)
	for _, piece := range []int{1 << 29, 2000, 3} {
		for _, c := range conversations() {
			t.Run(c.name+" by "+strconv.Itoa(piece), func(t *testing.T) {
				if size := len(c.bytes()); size/piece > 5000 {
					t.Skip("too many pieces")
				}
				t.Parallel()
				c.hold(t, dialEcho(t, loops), piece)
			})
		}
	}
}

// TestSaidWithHandshake: what comes together with the handshake is heard, with
// the library and without, as far as it is there.
func TestSaidWithHandshake(t *testing.T) {
	loops := startLoops(t)
	var all []byte
	for _, f := range []wireFrame{{op: text, payload: "a"}, {op: pong}, {op: text, payload: "b"}, {op: 1, payload: "c"}, {op: ping, payload: "d"}, {op: last, payload: "e"}} {
		all = f.append(all)
	}
	for cut := range len(all) + 1 {
		conn := dialSaying(t, echoCore{}, loops, all[:cut])
		if _, err := conn.Write(all[cut:]); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		for _, want := range []wireFrame{{op: text, payload: "a"}, {op: text, payload: "b"}, {op: pong, payload: "d"}, {op: text, payload: "ce"}} {
			if op, payload, err := readWire(r); err != nil || op != want.op || payload != want.payload {
				t.Fatalf("cut at %d: %x %q, %v; want %x %q", cut, op, payload, err, want.op, want.payload)
			}
		}
	}
}

func (c *conversation) bytes() []byte {
	var out []byte
	for _, f := range c.frames {
		out = f.append(out)
	}
	return out
}

// hold has the conversation, writing so many bytes at a time.
func (c *conversation) hold(t *testing.T, conn net.Conn, piece int) {
	go func() {
		for out := range slices.Chunk(c.bytes(), piece) {
			if _, err := conn.Write(out); err != nil {
				return
			}
		}
	}()
	r := bufio.NewReader(conn)
	for i, want := range c.want {
		op, payload, err := readWire(r)
		got := map[byte]string{text: "t", pong: "p"}[op] + payload
		if err != nil || got != want {
			t.Fatalf("answer %d is %x %.100q, %v; want %.100q", i, op, payload, err, want)
		}
	}
	if len(c.close) == 0 {
		_, _ = conn.Write(wireFrame{op: text, payload: "alive"}.append(nil))
		if op, payload, err := readWire(r); op != text || payload != "alive" {
			t.Errorf("not alive: %x %q %v", op, payload, err)
		}
		return
	}
	start := time.Now()
	status := 0
	if op, payload, err := readWire(r); err == nil && op == close {
		status = 1005
		if len(payload) >= 2 {
			status = int(binary.BigEndian.Uint16([]byte(payload)))
		}
	} else if err == nil {
		t.Fatalf("got %x %q", op, payload)
	}
	if !bytes.Contains(statuses(c.close), statuses([]int{status})) {
		t.Errorf("closed with %d, want %d", status, c.close)
	}
	if piece < 1<<30 { // else nothing is said any more
		_, _ = conn.Write(wireFrame{op: close}.append(nil))
	}
	_, _ = io.Copy(io.Discard, r)
	if took := time.Since(start); took > closeWithin+time.Second/2 {
		t.Errorf("the connection stayed for %v", took)
	}
}

func statuses(codes []int) []byte {
	var b []byte
	for _, c := range codes {
		b = append(b, '<')
		b = binary.BigEndian.AppendUint16(b, uint16(c))
	}
	return b
}

func slicesRepeat(f wireFrame, n int) (all []wireFrame) {
	for range n {
		all = append(all, f)
	}
	return all
}

func fragments(s string, size int) (all []wireFrame) {
	for i := 0; i < len(s); i += size {
		f := wireFrame{payload: s[i:min(i+size, len(s))]}
		if i == 0 {
			f.op = 1
		}
		if i+size >= len(s) {
			f.op |= fin
		}
		all = append(all, f)
	}
	return all
}

// dialEcho opens a WebSocket to a Handler over echoCore: over the network with
// loops, in memory without.
func dialEcho(t *testing.T, loops *loop.Loops) net.Conn {
	t.Helper()
	return dialCore(t, echoCore{}, loops)
}

func dialCore(t *testing.T, core gateway.Core, loops *loop.Loops) net.Conn {
	t.Helper()
	return dialSaying(t, core, loops, nil)
}

// dialSaying is dialCore for a client that says something together with its
// handshake, which nobody does who waits for the answer.
func dialSaying(t *testing.T, core gateway.Core, loops *loop.Loops, said []byte) net.Conn {
	t.Helper()
	tickets, err := auth.NewTickets([]byte("a mesh key for tests, long enough"), nil)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := tickets.Issue("a", "boot", auth.Verified{
		Principal: envelope.Principal{Node: "bob", Client: "bob"}, Issued: time.Now(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, abort := context.WithCancel(context.Background())
	mux := http.NewServeMux()
	(&Handler{Core: core, Tickets: tickets, MaxFrame: maxFrame, Log: slog.New(slog.DiscardHandler), Loops: loops, Context: ctx}).Register(mux)
	srv := &http.Server{Handler: mux}
	var serving sync.WaitGroup
	network := new(clienttest.Network)
	listen := func() (net.Listener, error) { return network.Listen("a:80"), nil }
	dial := network.Client().Transport.(*http.Transport).DialContext
	if loops != nil {
		listen = func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
		dial = new(net.Dialer).DialContext
	}
	l, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	serving.Go(func() { _ = srv.Serve(l) })
	addr := "a:80"
	if loops != nil {
		addr = l.Addr().String()
	}
	conn, err := dial(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		abort()
		_ = conn.Close()
		_ = srv.Close()
		serving.Wait()
	})
	_, err = io.WriteString(conn, "GET /ws?token="+token+" HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"+string(said))
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 0, 512)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		var b [1]byte
		if _, err := conn.Read(b[:]); err != nil {
			t.Fatal(err)
		}
		head = append(head, b[0])
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) || !bytes.Contains(head, []byte("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) {
		t.Fatalf("handshake: %s", head)
	}
	return conn
}

// hearCore is an echo that says what it was told.
type hearCore struct {
	echoCore
	heard chan string // closed at the end
}

func (c hearCore) Serve(ctx context.Context, who envelope.Principal, t gateway.Transport, codec gateway.Codec, o gateway.Options) {
	if w, ok := t.(gateway.Waiter); ok {
		t = hearingWaiter{w, c.heard}
	} else {
		t = hearing{t, c.heard}
	}
	c.echoCore.Serve(ctx, who, t, codec, o)
}

type hearing struct {
	gateway.Transport
	heard chan string
}

func (h hearing) Read() ([]byte, error) { return hear(h.Transport, h.heard) }

type hearingWaiter struct {
	gateway.Waiter
	heard chan string
}

func (h hearingWaiter) Read() ([]byte, error) { return hear(h.Waiter, h.heard) }

func hear(t gateway.Transport, heard chan string) ([]byte, error) {
	frame, err := t.Read()
	switch {
	case err == nil:
		heard <- string(frame)
	case !errors.Is(err, gateway.ErrNothing):
		heard <- ""
	}
	return frame, err
}

// TestCutOff: a message of which the end has not come is none (RFC 6455, section 5.4).
func TestCutOff(t *testing.T) {
	loops, err := loop.New(loop.Config{})
	if err != nil && !errors.Is(err, loop.ErrUnsupported) {
		t.Fatal(err)
	}
	t.Cleanup(loops.Close)
	for _, l := range []*loop.Loops{nil, loops} {
		for name, frames := range map[string][]wireFrame{
			"between fragments": {{op: 1, payload: "all"}},
			"behind a header":   {{op: text, claim: 5}},
			"in the middle":     {{op: text, payload: "all", claim: 1000}},
			"after much":        {{op: text, payload: strings.Repeat("x", 4096-6-8), claim: 5000}},
		} {
			t.Run(name+" in loop "+strconv.FormatBool(l != nil), func(t *testing.T) {
				core := hearCore{heard: make(chan string, 10)}
				c := conversation{frames: frames}
				conn := dialSaying(t, core, l, nil)
				if _, err := conn.Write(c.bytes()); err != nil {
					t.Fatal(err)
				}
				_ = conn.Close()
				if text := <-core.heard; text != "" {
					t.Errorf("heard %.20q", text)
				}
			})
		}
	}
}
