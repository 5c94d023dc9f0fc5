package allspark

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/allsparkrt/allspark/bench/peer/wire"
)

// caller makes HTTP calls to one server over a few connections that stay open.
// It is a fifth of the work of http.Client, which would cost more than what the
// server does when thousands connect.
type caller struct {
	address string
	dialer  *wire.Dialer
	idle    chan *callConn // at most so many are kept
}

type callConn struct {
	net.Conn
	r *bufio.Reader
}

func newCaller(address string, d *wire.Dialer) *caller {
	return &caller{address: address, dialer: d, idle: make(chan *callConn, 64)}
}

// post makes a call and reads the JSON answer into reply, unless it is nil.
func (c *caller) post(ctx context.Context, path, key string, body []byte, reply any) error {
	cc, err := c.take(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cc.SetDeadline(time.Unix(1, 0)) })
	answer, status, err := cc.roundTrip(c.address, path, key, body)
	if !stop() {
		err = errors.Join(err, context.Cause(ctx))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("allspark: POST %s: %w", path, err), cc.Close())
	}
	select {
	case c.idle <- cc:
	default:
		_ = cc.Close()
	}
	if status/100 != 2 {
		return fmt.Errorf("allspark: POST %s: %d: %s", path, status, answer)
	}
	if reply == nil {
		return nil
	}
	return json.Unmarshal(answer, reply)
}

func (c *caller) take(ctx context.Context) (*callConn, error) {
	select {
	case cc := <-c.idle:
		return cc, nil
	default:
	}
	nc, err := c.dialer.Dial(ctx, c.address)
	if err != nil {
		return nil, err
	}
	return &callConn{Conn: nc, r: bufio.NewReader(nc)}, nil
}

func (cc *callConn) roundTrip(host, path, key string, body []byte) (answer []byte, status int, err error) {
	b := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, host, key, len(body))
	if _, err := cc.Write(append(b, body...)); err != nil {
		return nil, 0, err
	}
	resp, err := http.ReadResponse(cc.r, nil)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return answer, resp.StatusCode, err
}

// close closes what is idle; nothing may be called any more.
func (c *caller) close() {
	for {
		select {
		case cc := <-c.idle:
			_ = cc.Close()
		default:
			return
		}
	}
}
