package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// located gives a server's clients the addresses that their device ids end with,
// as in ann@203.0.113.9.
type located struct{ gateway.Core }

func from(ctx context.Context, who envelope.Principal) context.Context {
	_, text, _ := strings.Cut(string(who.Node), "@")
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return ctx
	}
	return gateway.WithAddress(ctx, addr)
}

func (l located) Do(ctx context.Context, who envelope.Principal, cmd gateway.Command) (gateway.Event, error) {
	return l.Core.Do(from(ctx, who), who, cmd)
}

func (l located) Serve(ctx context.Context, who envelope.Principal, t gateway.Transport, c gateway.Codec, o gateway.Options) {
	o.Address = gateway.AddressOf(from(ctx, who))
	l.Core.Serve(ctx, who, t, c, o)
}

func inLimitedMesh(t *testing.T, limits Limits, f func(t *testing.T, m *mesh)) {
	t.Helper()
	inMeshOf(t, 0, func(c *Config) { c.Limits = limits }, func(t *testing.T, m *mesh) {
		m.core = func(s *server) gateway.Core { return located{s} }
		m.start("a")
		f(t, m)
	})
}

func (m *mesh) limited(limit string) uint64 { return m.at("a").Limited()[limit] }

// A device that sends too much is told so and when to send again; what it sends
// then keeps its order, and nobody else is held back.
func TestLimitOfMessages(t *testing.T) {
	for _, test := range []struct {
		name, limit    string
		limits         Limits
		device, other  string // share the limit unless they are one
		takesFromOther bool
	}{
		{"device", "device", Limits{Device: 2}, "ann", "bob", false},
		{"address", "address", Limits{Address: 2}, "ann@203.0.113.9", "bob@203.0.113.10", false},
		{"one address", "address", Limits{Address: 2}, "ann@203.0.113.9", "bob@203.0.113.9", true},
		{"one network", "address", Limits{Address: 2}, "ann@2001:db8::1", "bob@2001:db8::2", true},
		{"two networks", "address", Limits{Address: 2}, "ann@2001:db8::1", "bob@2001:db8:0:1::1", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			inLimitedMesh(t, test.limits, func(t *testing.T, m *mesh) {
				ann := m.raw(test.device, "a")
				ann.hello("")
				ann.control("caught_up")
				const burst = 10
				send := func(i int) envelope.Control {
					ann.send(fmt.Sprintf(`{"id":"%d","dest_id":"carl","payload":"%d"}`, i, i))
					f, err := ann.next(time.Minute)
					if err != nil {
						t.Fatal(err)
					}
					return f.ctl
				}
				for i := range burst {
					if got := send(i); got.Control != "ack" {
						t.Fatalf("%d: %+v", i, got)
					}
				}
				refused := send(burst)
				if refused.Control != "nack" || refused.Code != envelope.RateLimited || refused.RetryMS != 500 {
					t.Fatalf("%+v", refused)
				}
				if m.limited(test.limit) != 1 {
					t.Errorf("counted %v", m.at("a").Limited())
				}
				time.Sleep(time.Duration(refused.RetryMS) * time.Millisecond)
				if got := send(burst + 1); got.Control != "nack" || got.Code != envelope.Busy {
					t.Errorf("what comes behind a refused message: %+v", got)
				}
				if got := send(burst); got.Control != "ack" {
					t.Errorf("sent again in time: %+v", got)
				}
				ann.send(`{"control":"presence","clients":["bob"]}`)
				if f, err := ann.next(time.Minute); err != nil || f.ctl.Code != envelope.RateLimited {
					t.Errorf("presence is free: %s, %v", f.text, err)
				}

				ann.send(`{"dest_id":"carl","payload":"without an id"}`)
				if f, err := ann.next(time.Minute); err != nil || f.ctl.Code != envelope.RateLimited || f.ctl.RetryMS == 0 {
					t.Errorf("a message to be stored without an id: %s, %v", f.text, err)
				}
				ann.send(`{"dest_id":"carl","payload":"without an id","class":"volatile"}`)

				bob := m.raw(test.other, "a")
				bob.hello("")
				bob.control("caught_up")
				bob.send(`{"id":"1","dest_id":"carl","payload":"b"}`)
				want := "ack"
				if test.takesFromOther {
					want = "nack"
				}
				bob.control(want)
				m.settle()
				if n := m.at("a").Stats().DroppedRate.Load(); n != 1 {
					t.Errorf("%d dropped without a word", n)
				}
			})
		})
	}
}

// The SDK sends what was refused again: everything arrives, once and in order.
func TestLimitLosesNothing(t *testing.T) {
	inLimitedMesh(t, Limits{Device: 50}, func(t *testing.T, m *mesh) {
		ann, bob := m.client("ann", "a").connected(m), m.client("bob", "a").connected(m)
		var want []string
		for i := range 600 {
			want = append(want, fmt.Sprint(i))
			go ann.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
			m.settle() // in this order
		}
		m.within(time.Minute, "all there", func() bool { return len(bob.texts()) == len(want) })
		if got := bob.texts(); !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		if m.limited("device") == 0 {
			t.Error("there was no limit")
		}
	})
}

func TestLimitOfCalls(t *testing.T) {
	const there = "@203.0.113.9"
	inLimitedMesh(t, Limits{Device: 2, Sessions: 3, Guests: 4, Address: 1}, func(t *testing.T, m *mesh) {
		n := m.at("a")
		refusals := func(calls int, call func(i int) error) (refused int) {
			t.Helper()
			for i := range calls {
				switch err := call(i); {
				case envelope.CodeOf(err) == envelope.RateLimited && envelope.AsError(err).RetryMS > 0:
					refused++
				case err != nil:
					t.Fatal(err)
				}
			}
			return refused
		}
		do := func(who envelope.Principal, cmd gateway.Command) error {
			_, err := located{n}.Do(t.Context(), who, cmd)
			return err
		}
		ann := envelope.Principal{Node: "ann" + there, Client: "ann"}
		at := func(addr string) context.Context { return gateway.WithAddress(t.Context(), netip.MustParseAddr(addr)) }
		for _, test := range []struct {
			name  string
			limit string
			want  int // of 20
			call  func(i int) error
		}{
			{"calls of a device", "device", 10, func(int) error { return do(ann, gateway.Locate{Max: 1}) }},
			{"calls of another", "device", 10, func(int) error { return do(envelope.Principal{Node: "b", Client: "b"}, gateway.Locate{Max: 1}) }},
			{"calls of the app", "device", 0, func(int) error {
				return do(envelope.Principal{Node: "app", Client: "app", App: true}, gateway.Locate{Max: 1})
			}},
			{"sessions of many devices", "address_sessions", 17, func(i int) error {
				return do(envelope.Principal{Node: envelope.NodeID(fmt.Sprint(i, there)), Client: "b"}, gateway.CreateSession{})
			}},
			{"guests", "address_guests", 16, func(int) error { return n.MayMakeGuest(at("203.0.113.9")) }},
			{"calls from an address", "address", 15, func(int) error { return n.MayCall(at("203.0.113.9")) }},
			{"calls from this machine", "address", 0, func(int) error { return n.MayCall(at("127.0.0.1")) }},
			{"calls from nowhere", "address", 0, func(int) error { return n.MayCall(t.Context()) }},
		} {
			before := m.limited(test.limit)
			if got := refusals(20, test.call); got != test.want || m.limited(test.limit)-before != uint64(test.want) {
				t.Errorf("%s: %d refused of 20, want %d; counted %v", test.name, got, test.want, n.Limited())
			}
		}
		time.Sleep(10 * time.Second)
		if got := refusals(20, func(int) error { return do(ann, gateway.Locate{Max: 1}) }); got != 10 {
			t.Errorf("after a rest: %d refused of 20", got)
		}
	})
}

func TestLimitOfConnections(t *testing.T) {
	for _, test := range []struct {
		limit  string
		limits Limits
		client func(i int) string
	}{
		{"client_connections", Limits{ClientConnections: 2}, func(int) string { return "ann" }},
		{"address_connections", Limits{AddressConnections: 2}, func(i int) string { return fmt.Sprint("c", i) }},
	} {
		t.Run(test.limit, func(t *testing.T) {
			inLimitedMesh(t, test.limits, func(t *testing.T, m *mesh) {
				open := func(i int) *raw {
					time.Sleep(time.Millisecond)
					return m.rawDevice(test.client(i), fmt.Sprintf("d%d@203.0.113.9", i), "a")
				}
				limited := websocket.StatusCode(envelope.RateLimited.CloseCode())
				first, second := open(1), open(2)
				second.hello("")
				if status := open(3).closed(); status != limited {
					t.Errorf("the third: closed with %d", status)
				}
				again := open(1) // in place of the first
				again.hello("")
				if status := first.closed(); status != websocket.StatusCode(envelope.Replaced.CloseCode()) {
					t.Errorf("the first: closed with %d", status)
				}
				if status := open(3).closed(); status != limited {
					t.Errorf("still the third: closed with %d", status)
				}
				m.rawDevice("zoe", "zoe@203.0.113.10", "a").hello("")
				_ = second.ws.CloseNow()
				m.within(time.Minute, "the second is gone", func() bool { return m.at("a").Connections() == 2 })
				open(3).hello("")
				if m.limited(test.limit) != 2 {
					t.Errorf("counted %v", m.at("a").Limited())
				}
			})
		})
	}
}

// However many there are, no more than so many are remembered.
func TestLimitIsBounded(t *testing.T) {
	l := newLimiter[int](1, time.Second, time.Second, "")
	for i := range maxLimited + 1000 {
		if err := l.share(i).take(); err != nil {
			t.Fatal(err)
		}
	}
	if l.of.Len() != maxLimited {
		t.Errorf("%d are remembered", l.of.Len())
	}
	if l.share(maxLimited+999).take() == nil {
		t.Error("who came last is forgotten")
	}
}
