package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/gateway/native"
)

// key makes an auth key of bob's, changed as by edit.
func (m *mesh) key(valid time.Duration, edit func(*auth.Claims)) string {
	m.t.Helper()
	c := auth.Claims{Client: "bob", Node: "bob", Issued: time.Now(), Expires: time.Now().Add(valid)}
	if edit != nil {
		edit(&c)
	}
	key, err := auth.Mint(auth.MintKey{Secret: auth.Secret(tokenSecret)}, c)
	if err != nil {
		m.t.Fatal(err)
	}
	return key
}

// patient is a connection that answers pings while nobody reads from it.
type patient struct {
	*raw
	read chan read
}

type read struct {
	frame frame
	err   error
}

// with opens a connection with an auth key.
func (m *mesh) with(key, at string) *patient {
	m.t.Helper()
	r := m.dial("ws://"+at+"/ws", native.Subprotocol, "bearer."+m.guestTicket(client.Guest{AuthKey: key}, at))
	r.hello("")
	r.control("caught_up")
	p := &patient{r, make(chan read, 100)}
	go func() {
		for {
			f, err := r.next(24 * time.Hour)
			p.read <- read{f, err}
			if err != nil {
				return
			}
		}
	}()
	return p
}

func (p *patient) next(d time.Duration) (frame, error) {
	select {
	case r := <-p.read:
		return r.frame, r.err
	case <-time.After(d):
		return frame{}, context.DeadlineExceeded
	}
}

func (p *patient) control(name string) envelope.Control {
	p.t.Helper()
	f, err := p.next(time.Minute)
	if err != nil || f.ctl.Control != name {
		p.t.Fatalf("got %q, %v; want %s", f.text, err, name)
	}
	return f.ctl
}

// closed waits until the connection ends and returns the status; -1 without one.
func (p *patient) closed() websocket.StatusCode {
	for {
		if _, err := p.next(5 * time.Minute); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func refreshing(id, key string) string {
	return fmt.Sprintf(`{"control":"refresh","id":%q,"auth_key":%q}`, id, key)
}

// A client is told in time that its credential ends, and goes on with another
// one: for as long as that lasts, with its rights and at its rate.
func TestRefresh(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		began := time.Now().Truncate(time.Second)
		r := m.with(m.key(time.Minute, nil), "a")
		r.send(`{"control":"subscribe","topics":["topic:a","topic:b"]}`)
		r.control("subscribed")

		ends := began.Add(time.Minute + auth.Leeway)
		told := func() envelope.Control {
			t.Helper()
			f, err := r.next(2 * time.Hour)
			if err != nil || f.ctl.Control != envelope.ControlExpiring {
				t.Fatalf("got %s, %v", f.text, err)
			}
			return f.ctl
		}
		if at := told().At; at != ends.UnixMilli() || time.Until(ends).Round(time.Second) != 30*time.Second {
			t.Fatalf("told that it ends at %d, %v before %d", at, time.Until(ends), ends.UnixMilli())
		}
		narrow := &envelope.Rights{Send: []string{"session:*"}, Join: []string{"topic:b"}, Rate: 1}
		renewed := time.Now().Truncate(time.Second)
		r.send(refreshing("1", m.key(3*time.Minute, func(c *auth.Claims) { c.Rights = narrow })))
		ends = renewed.Add(3*time.Minute + auth.Leeway)
		if got := r.control(envelope.ControlRefreshed); got.ID != "1" || got.Expires != ends.UnixMilli() {
			t.Errorf("%+v", got)
		}
		if got := r.control("unsubscribed"); len(got.Topics) != 1 || got.Topics[0] != "topic:a" {
			t.Errorf("%+v", got)
		}
		pass(2 * time.Minute)
		alice.send(to(deviceAddr("bob"), "1", "still there"))
		if f, err := r.next(time.Minute); err != nil || text(f.msg) != "still there" {
			t.Errorf("got %s, %v", f.text, err)
		}
		refused := func(frame string) envelope.Code {
			t.Helper()
			r.send(frame)
			f, err := r.next(time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			return f.ctl.Code
		}
		if code := refused(`{"id":"1","dest_id":"alice","payload":1}`); code != envelope.Forbidden {
			t.Errorf("sent with the rights of before: %q", code)
		}
		if code := refused(`{"control":"subscribe","topics":["topic:a"]}`); code != envelope.Forbidden {
			t.Errorf("followed with the rights of before: %q", code)
		}
		for i := range 5 {
			if code := refused(fmt.Sprintf(`{"id":"t%d","dest_session_id":"topic:b","payload":1}`, i)); code != "" {
				t.Errorf("%d: %q", i, code)
			}
		}
		if code := refused(`{"id":"t5","dest_session_id":"topic:b","payload":1}`); code != envelope.RateLimited {
			t.Errorf("faster than the credential allows: %q", code)
		}

		if at := told().At; at != ends.UnixMilli() {
			t.Errorf("told that it ends at %d, not %d", at, ends.UnixMilli())
		}
		if _, err := r.next(time.Minute); websocket.CloseStatus(err) != 4501 || time.Since(ends) > time.Second || time.Until(ends) > 0 {
			t.Errorf("ended with %v, %v after", err, time.Since(ends))
		}
	})
}

// What is no other credential of the device changes nothing.
func TestRefreshRefused(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		ends := time.Now().Truncate(time.Second).Add(time.Minute + auth.Leeway)
		r := m.with(m.key(time.Minute, func(c *auth.Claims) { c.Rights = &envelope.Rights{Send: []string{}} }), "a")
		revoked := m.key(time.Hour, func(c *auth.Claims) { c.JTI = "lost" })
		if _, err := m.api("app", "app", "a").Session(t.Context(), "none"); envelope.CodeOf(err) != envelope.NotFound {
			t.Fatal(err)
		}
		app := envelope.Principal{Node: "app", Client: "app", App: true}
		if _, err := m.at("a").Do(t.Context(), app, gateway.Revoke{JTI: "lost"}); err != nil {
			t.Fatal(err)
		}
		guest := m.guest("a", "")
		pass(time.Second)
		for name, test := range map[string]struct {
			key  string
			want envelope.Code
		}{
			"another device":     {m.key(time.Hour, func(c *auth.Claims) { c.Node = "tablet" }), envelope.Forbidden},
			"another user":       {m.key(time.Hour, func(c *auth.Claims) { c.Client = "eve" }), envelope.Forbidden},
			"the app":            {m.key(time.Hour, func(c *auth.Claims) { c.App = true }), envelope.Forbidden},
			"a guest":            {guest.AuthKey, envelope.Forbidden},
			"revoked":            {revoked, envelope.Revoked},
			"expired":            {m.key(time.Hour, func(c *auth.Claims) { c.Issued, c.Expires = began(-time.Hour), began(-time.Minute) }), envelope.Unauthorized},
			"a validation token": {m.ticket("bob", "bob", "a"), envelope.Unauthorized},
			"nothing":            {"", envelope.Unauthorized},
			"no key":             {"a.b.c", envelope.Unauthorized},
			"far too long":       {strings.Repeat("a", 100_000), envelope.Unauthorized},
		} {
			r.send(refreshing("1", test.key))
			if got := r.control("nack"); got.ID != "1" || got.Code != test.want {
				t.Errorf("%s: %+v", name, got)
			}
		}
		r.send(`{"id":"2","dest_id":"alice","payload":1}`)
		if got := r.control("nack"); got.Code != envelope.Forbidden {
			t.Errorf("its rights have changed: %+v", got)
		}
		r.control(envelope.ControlExpiring)
		if _, err := r.next(time.Hour); websocket.CloseStatus(err) != 4501 || time.Since(ends).Abs() > time.Second {
			t.Errorf("ended with %v, %v after", err, time.Since(ends))
		}

		old := m.legacy("bob", "a")
		old.send(refreshing("1", m.key(time.Hour, nil)))
		if f, err := old.next(time.Minute); err != nil || f.ctl.Code != envelope.BadRequest {
			t.Errorf("the older form: %s, %v", f.text, err)
		}
	})
}

func began(ago time.Duration) time.Time { return time.Now().Add(ago) }

// A client whose key is no newer is not asked over and over, and one whose keys
// are short is asked when half of their time is over.
func TestExpiringIsSaidOnce(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		key := m.key(time.Minute, nil)
		r := m.with(key, "a")
		for i := range 2 {
			if i == 0 {
				r.send(refreshing("early", key))
				r.control(envelope.ControlRefreshed)
			}
			f, err := r.next(time.Hour)
			if want := []string{envelope.ControlExpiring, ""}[i]; (err == nil) != (want != "") || f.ctl.Control != want {
				t.Fatalf("%d: %s, %v", i, f.text, err)
			}
			if i == 0 {
				r.send(refreshing("same", key))
				r.control(envelope.ControlRefreshed)
			}
		}

		short := func() string {
			return m.key(time.Minute, func(c *auth.Claims) { c.Issued, c.Expires = began(-time.Hour), began(10*time.Second-auth.Leeway) })
		}
		pass(time.Second)
		r = m.with(short(), "a")
		for range 4 {
			start := time.Now()
			f, err := r.next(time.Minute)
			if took := time.Since(start); err != nil || f.ctl.Control != envelope.ControlExpiring || took < 4*time.Second || took > 5*time.Second {
				t.Fatalf("after %v: %s, %v", took, f.text, err)
			}
			r.send(refreshing("more", short()))
			r.control(envelope.ControlRefreshed)
		}
	})
}

// It is the credential that a connection lives by now that a revocation is about.
func TestRefreshAndRevocation(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		named := func(jti string) string { return m.key(time.Hour, func(c *auth.Claims) { c.JTI = jti }) }
		app := envelope.Principal{Node: "app", Client: "app", App: true}
		revoke := func(cmd gateway.Revoke) {
			t.Helper()
			if _, err := m.at("b").Do(t.Context(), app, cmd); err != nil {
				t.Fatal(err)
			}
			pass(5 * time.Second)
		}
		r := m.with(named("first"), "a")
		pass(2 * time.Second)
		issued := time.Now()
		r.send(refreshing("1", named("second")))
		r.control(envelope.ControlRefreshed)
		revoke(gateway.Revoke{JTI: "first"})
		revoke(gateway.Revoke{Client: "bob", Before: issued.Add(-time.Second).UnixMilli()})
		r.send(refreshing("2", named("first")))
		if got := r.control("nack"); got.Code != envelope.Revoked {
			t.Errorf("%+v", got)
		}
		revoke(gateway.Revoke{JTI: "second"})
		if status := r.closed(); int(status) != envelope.Revoked.CloseCode() {
			t.Errorf("closed with %d", status)
		}
	})
}

// slowly has auth keys of connections checked when the test says so.
type slowly struct {
	gateway.Core
	gate chan struct{}
}

func (s slowly) Serve(ctx context.Context, who envelope.Principal, t gateway.Transport, c gateway.Codec, o gateway.Options) {
	if verify := o.Verify; verify != nil {
		o.Verify = func(ctx context.Context, key string) (gateway.Verified, error) {
			of, err := verify(ctx, key)
			select {
			case <-s.gate:
			case <-ctx.Done():
				return of, envelope.BusyError(1000, "the key cannot be fetched", ctx.Err())
			}
			return of, err
		}
	}
	s.Core.Serve(ctx, who, t, c, o)
}

// While a key is being checked everything goes on, one is checked at a time, and
// what happens meanwhile counts.
func TestRefreshIsSlow(t *testing.T) {
	gate := make(chan struct{})
	inSlowMesh := func(t *testing.T, f func(t *testing.T, m *mesh, r *patient)) {
		inMeshOf(t, 0, nil, func(t *testing.T, m *mesh) {
			gate = make(chan struct{})
			m.core = func(s *server) gateway.Core { return slowly{s, gate} }
			m.start("a")
			r := m.with(m.key(10*time.Minute, nil), "a")
			r.send(refreshing("1", m.key(time.Hour, nil)))
			m.settle()
			f(t, m, r)
		})
	}
	t.Run("others go on", func(t *testing.T) {
		inSlowMesh(t, func(t *testing.T, m *mesh, r *patient) {
			r.send(`{"id":"m","dest_id":"alice","payload":1}`)
			r.control("ack")
			r.send(refreshing("2", m.key(time.Hour, nil)))
			if got := r.control("nack"); got.ID != "2" || got.Code != envelope.Busy || got.RetryMS == 0 {
				t.Errorf("%+v", got)
			}
			gate <- struct{}{}
			if got := r.control(envelope.ControlRefreshed); got.ID != "1" {
				t.Errorf("%+v", got)
			}
			r.send(refreshing("3", m.key(2*time.Hour, nil)))
			m.settle()
			gate <- struct{}{}
			r.control(envelope.ControlRefreshed)
		})
	})
	t.Run("the key cannot be had", func(t *testing.T) {
		inSlowMesh(t, func(t *testing.T, m *mesh, r *patient) {
			if got := r.control("nack"); got.Code != envelope.Busy {
				t.Errorf("%+v", got)
			}
		})
	})
	t.Run("revoked meanwhile", func(t *testing.T) {
		inSlowMesh(t, func(t *testing.T, m *mesh, r *patient) {
			app := envelope.Principal{Node: "app", Client: "app", App: true}
			if _, err := m.at("a").Do(t.Context(), app, gateway.Revoke{Client: "bob", Before: time.Now().Add(time.Second).UnixMilli()}); err != nil {
				t.Fatal(err)
			}
			close(gate)
			if status := r.closed(); int(status) != envelope.Revoked.CloseCode() {
				t.Errorf("closed with %d", status)
			}
		})
	})
	t.Run("the new one is revoked meanwhile", func(t *testing.T) {
		inMeshOf(t, 0, nil, func(t *testing.T, m *mesh) {
			gate = make(chan struct{})
			m.core = func(s *server) gateway.Core { return slowly{s, gate} }
			m.start("a")
			r := m.with(m.key(10*time.Minute, nil), "a")
			r.send(refreshing("1", m.key(time.Hour, func(c *auth.Claims) { c.JTI = "second" })))
			m.settle()
			app := envelope.Principal{Node: "app", Client: "app", App: true}
			if _, err := m.at("a").Do(t.Context(), app, gateway.Revoke{JTI: "second"}); err != nil {
				t.Fatal(err)
			}
			close(gate)
			if status := r.closed(); int(status) != envelope.Revoked.CloseCode() {
				t.Errorf("closed with %d", status)
			}
		})
	})
	t.Run("expired meanwhile", func(t *testing.T) {
		inMeshOf(t, 0, nil, func(t *testing.T, m *mesh) {
			gate = make(chan struct{})
			m.core = func(s *server) gateway.Core { return slowly{s, gate} }
			m.start("a")
			r := m.with(m.key(time.Minute, nil), "a")
			pass(time.Minute + auth.Leeway - 2*time.Second)
			r.control(envelope.ControlExpiring)
			r.send(refreshing("1", m.key(time.Hour, nil)))
			start := time.Now()
			if status := r.closed(); status != 4501 || time.Since(start) > 3*time.Second {
				t.Errorf("closed with %d after %v", status, time.Since(start))
			}
		})
	})
	t.Run("closed meanwhile", func(t *testing.T) {
		inSlowMesh(t, func(t *testing.T, m *mesh, r *patient) {
			_ = r.ws.CloseNow()
			m.within(time.Minute, "it is gone", func() bool { return m.at("a").Connections() == 0 })
		})
	})
}

// The Go client stays connected when it is given a function that makes auth
// keys, comes back when that fails for a while, and loses nothing.
func TestClientRefreshes(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		var asked atomic.Int64
		var away, bad atomic.Bool
		bob := m.deviceWith("bob", "bob", client.Options{NewAuthKey: func(context.Context) (string, error) {
			if away.Load() {
				return "", errors.New("the backend is away")
			}
			if bad.Load() {
				return m.mint("bob", "tablet", time.Minute), nil
			}
			asked.Add(1)
			return m.mint("bob", "bob", time.Minute), nil
		}}, "a").connected(m)
		alice := m.client("alice", "a").connected(m)
		for i := range 5 {
			pass(time.Minute)
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		n, keys := m.at("a").Stats().Connected.Load(), asked.Load()
		if n != 2 || keys < 5 || keys > 12 {
			t.Errorf("%d connections, asked for %d keys", n, keys)
		}
		m.within(2*time.Minute, "bob has a key for most of a minute", func() bool { return asked.Load() > keys })
		bad.Store(true) // for the next one, which is refused
		refused := m.at("a").Stats().Refusals()[envelope.Forbidden]
		m.within(2*time.Minute, "another device's key is refused", func() bool { return m.at("a").Stats().Refusals()[envelope.Forbidden] > refused })
		bad.Store(false)
		pass(time.Minute)
		if now := m.at("a").Stats().Connected.Load(); now != n+1 || m.at("a").Connections() != 2 {
			t.Errorf("%d connections, %d of them now", now, m.at("a").Connections())
		}
		away.Store(true)
		pass(2 * time.Minute)
		if m.at("a").Connections() != 1 {
			t.Error("connected without a key")
		}
		away.Store(false)
		alice.send(to(deviceAddr("bob"), "last", "last"))
		m.within(time.Minute, "bob is back", func() bool { return len(bob.texts()) == 6 })
	})
}

// A stream cannot be given another key, and is not told to.
func TestStreamEndsWithItsKey(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		resp := m.get(t.Context(), "nobody", "a", "/v1/stream", "Authorization", "Bearer "+m.key(time.Minute, nil))
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
		text := new(strings.Builder)
		b := make([]byte, 1024)
		for {
			n, err := resp.Body.Read(b)
			text.Write(b[:n])
			if err != nil {
				break
			}
		}
		if said := text.String(); strings.Contains(said, envelope.ControlExpiring) || !strings.Contains(said, `"close_code":4501`) {
			t.Errorf("%s", said)
		}
	})
}
