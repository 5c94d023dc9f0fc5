package server

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
	"github.com/allsparkrt/allspark/envelope"
)

// rough is a network on which connections break in the middle of frames, and
// some devices are slow to read.
type rough struct {
	broken  atomic.Int64
	healthy atomic.Bool // from now on nothing breaks
}

// client returns the network of one device.
func (r *rough) client(slow bool, seed uint64) *http.Client {
	rnd := rand.New(rand.NewPCG(seed, 0))
	var mu sync.Mutex // of rnd
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		tcp := conn.(*net.TCPConn)
		c := &roughConn{TCPConn: tcp, of: r, reset: rnd.IntN(2) == 0}
		c.lasts.Store(2000 + rnd.Int64N(100_000))
		if slow {
			c.pause = time.Duration(1+rnd.IntN(5)) * time.Millisecond
			_ = tcp.SetReadBuffer(4 << 10)
		}
		return c, nil
	}}}
}

// roughConn breaks when so many bytes have passed, both ways.
type roughConn struct {
	*net.TCPConn
	of    *rough
	lasts atomic.Int64
	pause time.Duration // before each read
	reset bool          // the other side does not get what is under way
}

func (c *roughConn) Read(p []byte) (int, error) {
	time.Sleep(c.pause)
	n, err := c.TCPConn.Read(p)
	if c.pass(n) < n {
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *roughConn) Write(p []byte) (int, error) {
	if n := c.pass(len(p)); n < len(p) {
		_, _ = c.TCPConn.Write(p[:n])
		if c.reset {
			_ = c.SetLinger(0)
		}
		_ = c.Close()
		return n, net.ErrClosed
	}
	return c.TCPConn.Write(p)
}

// pass returns how many of n bytes pass.
func (c *roughConn) pass(n int) int {
	if c.of.healthy.Load() {
		return n
	}
	left := c.lasts.Add(-int64(n))
	if left >= 0 {
		return n
	}
	c.of.broken.Add(1)
	return max(0, n+int(left))
}

// held is what the process has, that connections need.
func held(t *testing.T) (goroutines, descriptors int) {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no list of descriptors here")
	}
	return runtime.NumGoroutine(), len(files)
}

// TestRoughNetwork: clients of all sizes of messages, slow ones among them, whose
// connections break at any byte. What is acknowledged arrives once and in order,
// and in the end the server holds nothing for those who are gone.
func TestRoughNetwork(t *testing.T) {
	const devices, messages, peers = 16, 60, 3
	s := started(t, func(c *config.Config) { c.MaxConnections = 1000 })
	network := new(rough)
	dial := func(i int) (*client.Client, *http.Client) {
		name := fmt.Sprintf("device-%d", i)
		key, err := auth.Mint(auth.MintKey{Secret: auth.Secret(strings.Repeat("s", 32))}, auth.Claims{
			Client: envelope.ClientID(name), Issued: time.Now(), Expires: time.Now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		h := network.client(i%4 == 0, uint64(i))
		c, err := client.New(client.Options{Servers: []string{s.URL()}, AuthKey: key, HTTPClient: h})
		if err != nil {
			t.Fatal(err)
		}
		return c, h
	}
	leave := func(c *client.Client, h *http.Client) {
		_ = c.Close(t.Context())
		h.CloseIdleConnections()
	}

	warm, h := dial(devices)
	e := envelope.Envelope{DestNode: "nobody"}
	e.SetPayload("x")
	if _, err := warm.Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	leave(warm, h)
	time.Sleep(100 * time.Millisecond)
	goroutines, descriptors := held(t)

	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var all, sending sync.WaitGroup
	var missing atomic.Int64
	missing.Store(2 * devices * peers * messages) // to arrive, and to be acknowledged
	done := make(chan struct{})
	settle := func() {
		if missing.Add(-1) == 0 {
			close(done)
		}
	}
	clients := make([]*client.Client, devices)
	https := make([]*http.Client, devices)
	for i := range clients {
		clients[i], https[i] = dial(i)
	}
	for i, c := range clients {
		all.Go(func() {
			last := make(map[envelope.NodeID]int)
			for m, err := range c.Messages(ctx) {
				if err != nil {
					if ctx.Err() == nil {
						t.Errorf("device %d: %v", i, err)
					}
					return
				}
				payload, _ := m.Member("payload")
				text := strings.Trim(string(payload), `"`)
				number, err := strconv.Atoi(text[:min(5, len(text))])
				if err != nil {
					t.Errorf("device %d: payload %.20q", i, payload)
				}
				if number != last[m.SrcNode]+1 {
					t.Errorf("device %d: %d after %d of %s seq %d %s", i, number, last[m.SrcNode], m.SrcNode, m.Seq, m.ID)
				}
				last[m.SrcNode] = number
				settle()
			}
		})
		sending.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for n := range messages {
				time.Sleep(20 * time.Millisecond) // an overload is not what is tested
				for p := range peers {
					size := []int{0, 10, 100, 1000, 3000}[rnd.IntN(5)]
					if rnd.IntN(100) == 0 {
						size = 70_000
					}
					e := envelope.Envelope{DestNode: envelope.NodeID(fmt.Sprintf("device-%d", (i+1+p)%devices))}
					e.SetPayload(fmt.Sprintf("%05d", n+1) + strings.Repeat("x", size))
					if err := c.SendAsync(ctx, e, func(_ client.Ack, err error) {
						if err != nil {
							t.Errorf("device %d: message %d: %v", i, n+1, err)
						}
						settle()
					}); err != nil {
						t.Errorf("device %d: %v", i, err)
						return
					}
				}
			}
		})
	}
	sending.Wait()
	network.healthy.Store(true)
	select {
	case <-done:
	case <-ctx.Done():
		t.Errorf("%d messages have not arrived, or their acknowledgements have not", missing.Load())
	}
	cancel()
	all.Wait()
	for i, c := range clients {
		leave(c, https[i])
	}
	if network.broken.Load() < devices {
		t.Errorf("only %d connections broke", network.broken.Load())
	}
	t.Logf("%d connections broke", network.broken.Load())

	deadline := time.Now().Add(10 * time.Second)
	for {
		g, d := held(t)
		if g <= goroutines && d <= descriptors {
			return
		}
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines and %d descriptors, %d and %d before:\n%s", g, d, goroutines, descriptors, stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(20 * time.Millisecond)
	}
}
