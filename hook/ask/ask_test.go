package ask

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/hook"
)

// backend is an app's backend without a network.
type backend func(*http.Request) (*http.Response, error)

func (b backend) RoundTrip(r *http.Request) (*http.Response, error) { return b(r) }

func says(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(body))}
}

// silence does not answer.
func silence(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func asking(t *testing.T, cfg Config, b backend) *Backend {
	t.Helper()
	cfg.URL, cfg.For, cfg.Log = "http://backend/may?key=hidden", Actions(), slog.New(slog.NewTextHandler(t.Output(), nil))
	cfg.Client = &http.Client{Transport: b}
	asks := New(cfg)
	t.Cleanup(asks.Close)
	return asks
}

func of(device string) Question {
	return Question{Action: Connect, Node: envelope.NodeID(device), Client: envelope.ClientID(device)}
}

// Over a real socket and TLS: what is asked, and that it is signed.
func TestRequest(t *testing.T) {
	secret := []byte("a secret between the app's backend and the mesh")
	var body atomic.Value
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said, _ := io.ReadAll(r.Body)
		if err := hook.Verify(secret, r.Header.Get("Allspark-Signature"), said, time.Now(), time.Minute); err != nil {
			t.Error(err)
		}
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.URL.RequestURI() != "/may?x=1" {
			t.Errorf("%s %s of %s", r.Method, r.URL, r.Header.Get("Content-Type"))
		}
		if _, told := r.Header["Idempotency-Key"]; told {
			t.Error("an empty header is sent")
		}
		body.Store(string(said))
		_, _ = io.WriteString(w, `{"allow":true}`)
	}))
	defer srv.Close()
	b := New(Config{URL: srv.URL + "/may?x=1", Secrets: [][]byte{[]byte("the next one"), secret}, For: Actions(), Client: srv.Client(), Log: slog.New(slog.DiscardHandler)})
	defer b.Close()
	for _, test := range []struct {
		q    Question
		want string
	}{
		{
			Question{Action: Connect, Node: "phone", Client: "bob", Address: netip.MustParseAddr("2001:db8::1")},
			`{"action":"connect","node_id":"phone","client_id":"bob","guest":false,"address":"2001:db8::1"}`,
		},
		{
			Question{Action: Join, Node: "guest-1", Client: "guest-1", Guest: true, Session: "room", Anonymous: true},
			`{"action":"join","node_id":"guest-1","client_id":"guest-1","guest":true,"session_id":"room","as_anonymous":true}`,
		},
		{
			Question{Action: Join, Node: "phone", Client: "bob", Create: true},
			`{"action":"join","node_id":"phone","client_id":"bob","guest":false,"create":true}`,
		},
		{
			Question{Action: Send, Node: "phone", Client: "bob", DestNode: "room~zorro", DestSession: "room"},
			`{"action":"send","node_id":"phone","client_id":"bob","guest":false,"dest_id":"room~zorro","dest_session_id":"room"}`,
		},
		{
			Question{Action: Send, Node: "phone", Client: "bob", DestClient: "ann"},
			`{"action":"send","node_id":"phone","client_id":"bob","guest":false,"dest_client_id":"ann"}`,
		},
	} {
		if err := b.May(t.Context(), test.q); err != nil || body.Load() != test.want {
			t.Errorf("asked %s, %v\nwant  %s", body.Load(), err, test.want)
		}
	}
}

// What an answer is taken for, whatever it is.
func TestAnswers(t *testing.T) {
	const yes, no, failure = envelope.Code(""), envelope.Forbidden, envelope.Busy
	long := strings.Repeat("é", 1000)
	for _, test := range []struct {
		name   string
		answer func() (*http.Response, error)
		want   envelope.Code
		detail string
	}{
		{"yes", func() (*http.Response, error) { return says(200, `{"allow":true}`), nil }, yes, ""},
		{"more members", func() (*http.Response, error) { return says(200, ` {"x":[{}],"allow":true} `), nil }, yes, ""},
		{"no", func() (*http.Response, error) { return says(200, `{"allow":false}`), nil }, no, "the app does not allow that"},
		{"no, and why", func() (*http.Response, error) { return says(200, `{"allow":false,"reason":"pay first"}`), nil }, no, "pay first"},
		{"403", func() (*http.Response, error) { return says(403, ""), nil }, no, "the app does not allow that"},
		{"403 that says yes", func() (*http.Response, error) { return says(403, `{"allow":true,"reason":"banned"}`), nil }, no, "banned"},
		{"403 of a proxy", func() (*http.Response, error) { return says(403, `<html>`), nil }, no, "the app does not allow that"},
		{"control characters", func() (*http.Response, error) {
			return says(403, `{"reason":"a\r\nb\u001b[31m\u202ec\u0000"}`), nil
		}, no, "ab[31mc"},
		{"a long reason", func() (*http.Response, error) { return says(403, `{"reason":"`+long+`"}`), nil }, no, long[:maxReason]},
		{"nothing", func() (*http.Response, error) { return says(200, ""), nil }, failure, ""},
		{"no allow", func() (*http.Response, error) { return says(200, `{"reason":"x"}`), nil }, failure, ""},
		{"null", func() (*http.Response, error) { return says(200, `null`), nil }, failure, ""},
		{"allow is null", func() (*http.Response, error) { return says(200, `{"allow":null}`), nil }, failure, ""},
		{"allow is a text", func() (*http.Response, error) { return says(200, `{"allow":"true"}`), nil }, failure, ""},
		{"another spelling", func() (*http.Response, error) { return says(200, `{"ALLOW":true}`), nil }, failure, ""},
		{"twice", func() (*http.Response, error) { return says(200, `{"allow":false,"allow":true}`), nil }, failure, ""},
		{"two answers", func() (*http.Response, error) { return says(200, `{"allow":true}{"allow":false}`), nil }, failure, ""},
		{"a list", func() (*http.Response, error) { return says(200, `[{"allow":true}]`), nil }, failure, ""},
		{"no UTF-8", func() (*http.Response, error) { return says(200, "{\"allow\":true,\"reason\":\"\xff\"}"), nil }, failure, ""},
		{"a negative time", func() (*http.Response, error) { return says(200, `{"allow":true,"ttl_ms":-1}`), nil }, failure, ""},
		{"too large", func() (*http.Response, error) { return says(200, `{"allow":true}`+strings.Repeat(" ", maxReply)), nil }, failure, ""},
		{"204", func() (*http.Response, error) { return says(204, ""), nil }, failure, ""},
		{"201", func() (*http.Response, error) { return says(201, `{"allow":true}`), nil }, failure, ""},
		{"401", func() (*http.Response, error) { return says(401, `{"allow":true}`), nil }, failure, ""},
		{"500", func() (*http.Response, error) { return says(500, `{"allow":true}`), nil }, failure, ""},
		{"a redirect", func() (*http.Response, error) {
			res := says(307, `{"allow":true}`)
			res.Header.Set("Location", "http://elsewhere/")
			return res, nil
		}, failure, ""},
		{"none", func() (*http.Response, error) { return nil, errors.New("connection refused") }, failure, ""},
		{"half", func() (*http.Response, error) {
			res := says(200, "")
			res.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"allow":true`), brokenReader{}))
			return res, nil
		}, failure, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer := func(r *http.Request) (*http.Response, error) {
				if r.URL.Host != "backend" {
					t.Errorf("asked %s", r.URL)
				}
				return test.answer()
			}
			shut, open := asking(t, Config{}, answer), asking(t, Config{FailOpen: true}, answer)
			err := shut.May(t.Context(), of("bob"))
			if envelope.CodeOf(err) != test.want {
				t.Fatalf("%v, want %q", err, test.want)
			}
			switch {
			case test.want == no && envelope.AsError(err).Detail != test.detail:
				t.Errorf("the client is told %q, want %q", envelope.AsError(err).Detail, test.detail)
			case test.want == failure && envelope.AsError(err).RetryMS == 0:
				t.Error("it is not said when to try again")
			case err != nil && strings.Contains(err.Error(), "hidden"):
				t.Errorf("the URL is told: %v", err)
			}
			want := test.want
			if want == failure {
				want = yes
			}
			if err := open.May(t.Context(), of("bob")); envelope.CodeOf(err) != want {
				t.Errorf("failing open: %v, want %q", err, want)
			}
			if st := shut.Stats(); st.Allowed.Load()+st.Denied.Load()+st.FailedAnswer.Load() != 1 || st.Requests.Load() != 1 {
				t.Error("not counted once")
			}
		})
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// An answer holds for as long as is configured, or for less if it says so.
func TestKeep(t *testing.T) {
	for _, test := range []struct {
		name   string
		keep   time.Duration
		answer string
		holds  time.Duration
	}{
		{"as configured", 30 * time.Second, `{"allow":true}`, 30 * time.Second},
		{"a no as well", 30 * time.Second, `{"allow":false}`, 30 * time.Second},
		{"less", 30 * time.Second, `{"allow":true,"ttl_ms":5000}`, 5 * time.Second},
		{"not more", 30 * time.Second, `{"allow":true,"ttl_ms":18446744073709551615}`, 30 * time.Second},
		{"not at all", 30 * time.Second, `{"allow":true,"ttl_ms":0}`, 0},
		{"never", 0, `{"allow":true,"ttl_ms":5000}`, 0},
		{"no failure", 30 * time.Second, `?`, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked int
				b := asking(t, Config{Keep: test.keep}, func(*http.Request) (*http.Response, error) {
					asked++
					return says(200, test.answer), nil
				})
				ask := func() envelope.Code { return envelope.CodeOf(b.May(t.Context(), of("bob"))) }
				first := ask()
				if test.holds > 0 {
					time.Sleep(test.holds - time.Millisecond)
					if ask() != first || asked != 1 {
						t.Fatalf("asked %d times", asked)
					}
					time.Sleep(time.Millisecond)
				}
				if ask() != first || asked != 2 {
					t.Errorf("asked %d times", asked)
				}
			})
		})
	}
}

// Answers are of one question: none holds for another.
func TestQuestionsDiffer(t *testing.T) {
	all := []Question{
		of("bob"), of("ann"),
		{Action: Connect, Node: "bob", Client: "ann"},
		{Action: Connect, Node: "bob", Client: "bob", Guest: true},
		{Action: Connect, Node: "bob", Client: "bob", Address: netip.MustParseAddr("192.0.2.1")},
		{Action: Join, Node: "bob", Client: "bob"},
		{Action: Join, Node: "bob", Client: "bob", Session: "room"},
		{Action: Join, Node: "bob", Client: "bob", Session: "room", Anonymous: true},
		{Action: Join, Node: "bob", Client: "bob", Session: "room", Create: true},
		{Action: Send, Node: "bob", Client: "bob", DestSession: "room"},
		{Action: Send, Node: "bob", Client: "bob", DestNode: "room"},
		{Action: Send, Node: "bob", Client: "bob", DestClient: "room"},
		{Action: Send, Node: "bob", Client: "bob", DestNode: "room", DestSession: "room"},
	}
	var asked atomic.Int32
	b := asking(t, Config{Keep: time.Hour}, func(*http.Request) (*http.Response, error) {
		asked.Add(1)
		return says(200, `{"allow":true}`), nil
	})
	for range 2 {
		for _, q := range all {
			if err := b.May(t.Context(), q); err != nil {
				t.Error(err)
			}
		}
	}
	if int(asked.Load()) != len(all) || int(b.Stats().Kept.Load()) != len(all) {
		t.Errorf("%d questions were asked %d times", len(all), asked.Load())
	}
}

// Who asks the same at the same time waits for one answer, who has gone waits
// for none, and it is kept all the same.
func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		b := asking(t, Config{Keep: time.Minute}, func(*http.Request) (*http.Response, error) {
			<-release
			return says(200, `{"allow":true}`), nil
		})
		gone, leave := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if err := b.May(gone, of("bob")); envelope.CodeOf(err) != envelope.Busy || !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
		synctest.Wait()
		leave()
		waiting.Wait() // before there is an answer
		for range 50 {
			waiting.Go(func() {
				if err := b.May(t.Context(), of("bob")); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(release)
		waiting.Wait()
		if n := b.Stats().Requests.Load(); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

// A backend that does not answer holds up the first who ask. Then nobody, until
// it answers again.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		dead.Store(true)
		b := asking(t, Config{Timeout: 3 * time.Second}, func(r *http.Request) (*http.Response, error) {
			if dead.Load() {
				return silence(r)
			}
			return says(200, `{"allow":true}`), nil
		})
		took := func(device string) (time.Duration, envelope.Code) {
			began := time.Now()
			err := b.May(t.Context(), of(device))
			return time.Since(began), envelope.CodeOf(err)
		}
		for i, device := range []string{"a", "b", "b", "b", "c"} { // one that asks often does not decide
			if d, code := took(device); d != 3*time.Second || code != envelope.Busy {
				t.Fatalf("%d: %v after %v", i, code, d)
			}
		}
		if b.Stats().Opened.Load() != 1 || !b.Stats().Broken.Load() {
			t.Fatal("not open")
		}
		held, asked := 0, b.Stats().Requests.Load()
		began := time.Now()
		for i := range 600 { // a minute, ten askers a second
			var wait time.Duration
			if wait, _ = took(string(rune('a' + i%26))); wait > 0 {
				held++
			}
			time.Sleep(100 * time.Millisecond)
		}
		if probes := b.Stats().Requests.Load() - asked; held > 7 || int(probes) != held || held < 3 {
			t.Errorf("in %v %d were held up, %d asked", time.Since(began), held, probes)
		}
		dead.Store(false)
		time.Sleep(lastPause)
		for _, device := range []string{"d", "e"} {
			if d, code := took(device); d != 0 || code != "" {
				t.Errorf("%v after %v", code, d)
			}
		}
		if st := b.Stats(); st.Opened.Load() != 1 || st.Broken.Load() || st.FailedBroken.Load() < 500 {
			t.Errorf("opened %d times, %d not asked", st.Opened.Load(), st.FailedBroken.Load())
		}
	})
}

// Of those that ask while the breaker is open only one finds out.
func TestProbeIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := asking(t, Config{Timeout: 3 * time.Second}, silence)
		var all sync.WaitGroup
		for _, device := range []string{"a", "b", "c"} {
			all.Go(func() { _ = b.May(t.Context(), of(device)) })
		}
		all.Wait()
		time.Sleep(firstPause)
		began := time.Now()
		var held atomic.Int32
		for i := range 100 {
			all.Go(func() {
				_ = b.May(t.Context(), of(string(rune('d'+i))))
				if time.Since(began) > 0 {
					held.Add(1)
				}
			})
		}
		all.Wait()
		if held.Load() != 1 {
			t.Errorf("%d were held up", held.Load())
		}
	})
}

// One device has no more than its share of what may wait, and all together no
// more than so many requests under way.
func TestBounds(t *testing.T) {
	t.Run("failing shut", func(t *testing.T) { testBounds(t, false) })
	t.Run("failing open", func(t *testing.T) { testBounds(t, true) }) // which lets nobody through for asking much
}

func testBounds(t *testing.T, open bool) {
	synctest.Test(t, func(t *testing.T) {
		var under, most atomic.Int32
		b := asking(t, Config{Timeout: 10 * time.Second, FailOpen: open}, func(r *http.Request) (*http.Response, error) {
			if n := under.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer under.Add(-1)
			time.Sleep(time.Second)
			return says(200, `{"allow":true}`), nil
		})
		var all sync.WaitGroup
		var full, refused atomic.Int32
		began := time.Now()
		for i := range 1000 {
			all.Go(func() {
				q := of("hostile")
				q.DestNode = envelope.NodeID(strings.Repeat("x", i+1))
				if envelope.CodeOf(b.May(t.Context(), q)) == envelope.Busy && time.Since(began) == 0 {
					full.Add(1)
				}
			})
		}
		synctest.Wait()
		if full.Load() != 1000-maxWaitingOf {
			t.Errorf("%d questions of one device were refused", full.Load())
		}
		for i := range 300 {
			all.Go(func() {
				if err := b.May(t.Context(), of("other-"+strings.Repeat("x", i))); err != nil {
					refused.Add(1)
				}
			})
		}
		all.Wait()
		if refused.Load() != 0 || most.Load() != atOnce {
			t.Errorf("%d of others were refused; %d requests at once", refused.Load(), most.Load())
		}
		if n := b.Stats().FailedWaiting.Load(); int32(n) != full.Load() {
			t.Errorf("%d counted", n)
		}
	})
}

// A backend that is only slow is not taken for gone by those whose turn does not come.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := asking(t, Config{Timeout: 3 * time.Second}, func(r *http.Request) (*http.Response, error) {
			time.Sleep(2 * time.Second)
			return says(200, `{"allow":true}`), nil
		})
		var all sync.WaitGroup
		var good atomic.Int32
		for i := range 5 * atOnce {
			all.Go(func() {
				if b.May(t.Context(), of("x"+strings.Repeat("x", i))) == nil {
					good.Add(1)
				}
			})
		}
		all.Wait()
		if st := b.Stats(); st.Opened.Load() != 0 || good.Load() < atOnce {
			t.Errorf("opened %d times; %d answers", st.Opened.Load(), good.Load())
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := asking(t, Config{FailOpen: true}, silence)
		began := time.Now()
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				if err := b.May(t.Context(), of("x"+strings.Repeat("x", i))); envelope.CodeOf(err) != envelope.GoingAway {
					t.Errorf("%v", err)
				}
			})
		}
		synctest.Wait()
		b.Close()
		all.Wait()
		if err := b.May(t.Context(), of("bob")); envelope.CodeOf(err) != envelope.GoingAway || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestNobodyAsked(t *testing.T) {
	if b := New(Config{}); b != nil || b.Asks(Connect) || b.May(t.Context(), of("bob")) != nil || b.Stats() != nil {
		t.Error("without a URL something is asked")
	}
	b := New(Config{URL: "http://backend/", For: []Action{Join}, Client: &http.Client{Transport: backend(silence)}})
	defer b.Close()
	if err := b.May(t.Context(), of("bob")); err != nil {
		t.Errorf("asked about what it has no say in: %v", err)
	}
}

// Whatever the backend answers is a yes, a no or a failure, and what a client is
// told of it is bounded and printable.
func FuzzAnswer(f *testing.F) {
	for _, said := range []string{`{"allow":true,"reason":"x","ttl_ms":5}`, `{"allow":false}`, `{"reason":"\u202e"}`, `[`} {
		f.Add(200, said)
		f.Add(403, said)
	}
	b := &Backend{cfg: Config{Keep: time.Minute}}
	now := time.Now()
	f.Fuzz(func(t *testing.T, status int, said string) {
		a, err := b.understand(status, []byte(said), now)
		switch {
		case err != nil && a != answer{}:
			t.Errorf("%+v, %v", a, err)
		case err == nil && status != http.StatusOK && status != http.StatusForbidden,
			err == nil && status == http.StatusForbidden && a.allow,
			len(a.reason) > maxReason, printable(a.reason) != a.reason,
			err == nil && (a.until.Before(now) || a.until.After(now.Add(time.Minute))):
			t.Errorf("%d %q is taken for %+v", status, said, a)
		}
	})
}
