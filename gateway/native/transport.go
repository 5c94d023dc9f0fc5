package native

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/envelope"
)

// keepBuffer is the largest read buffer kept between frames, in bytes.
const keepBuffer = 16 << 10

// closeWithin bounds a goodbye.
const closeWithin = 5 * time.Second

// transport is a WebSocket connection as a [gateway.Transport].
type transport struct {
	ws  *websocket.Conn
	net net.Conn // below ws
	max int      // bytes of the largest frame

	buf []byte // owned by the reader

	status atomic.Int32 // a close status that says more than the code would; 0 none
}

// Read returns the next text frame. Contexts per call cost more than the rest
// of a read, so there is none: closing the connection ends it.
func (t *transport) Read() ([]byte, error) {
	if cap(t.buf) > keepBuffer {
		t.buf = nil
	}
	kind, r, err := t.ws.Reader(context.Background())
	if err != nil {
		return nil, err
	}
	if kind != websocket.MessageText {
		t.status.Store(int32(websocket.StatusUnsupportedData))
		return nil, envelope.Errorf(envelope.BadRequest, "frames are text")
	}
	if t.buf, err = readAll(t.buf[:0], r, t.max); err != nil {
		return nil, err
	}
	if status, err := judge(t.buf, t.max); err != nil {
		t.status.Store(int32(status))
		return nil, err
	}
	return t.buf, nil
}

// judge refuses text that is not understood, if need be with a status that says
// more than the code would.
func judge(text []byte, max int) (status websocket.StatusCode, err error) {
	switch {
	case len(text) > max:
		return 0, envelope.Errorf(envelope.TooLarge, "a frame has at most %d bytes", max)
	case !utf8.Valid(text): // RFC 6455, section 8.1
		return websocket.StatusInvalidFramePayloadData, envelope.Errorf(envelope.BadRequest, "not valid UTF-8")
	}
	return 0, nil
}

// readAll is io.ReadAll into a buffer that is used again. It stops soon after
// max bytes, however long the frame says it is.
func readAll(buf []byte, r io.Reader, max int) ([]byte, error) {
	for len(buf) <= max {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

func (t *transport) Write(frame []byte) error {
	return t.ws.Write(context.Background(), websocket.MessageText, frame)
}

func (t *transport) Ping(ctx context.Context) error { return t.ws.Ping(ctx) }

func (t *transport) Close(code envelope.Code, reason string) {
	status := websocket.StatusCode(code.CloseCode())
	if code == "" {
		status = websocket.StatusNormalClosure
	}
	if s := t.status.Load(); s != 0 {
		status = websocket.StatusCode(s)
	}
	// The library reads the rest of a frame without a time limit before it
	// waits for the client's goodbye.
	defer time.AfterFunc(closeWithin, t.Abort).Stop()
	_ = t.ws.Close(status, reason)
}

// Abort ends the network connection itself: the library does not interrupt a
// goodbye.
func (t *transport) Abort() { _ = t.net.Close() }
