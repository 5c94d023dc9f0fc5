package hook

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The signature is computed here from its description, not by [Sign].
func TestSign(t *testing.T) {
	const secret, body = "It's a Secret to Everybody", "Hello, World!"
	at := time.Unix(1_700_000_000, 0)
	// printf '1700000000.Hello, World!' | openssl dgst -sha256 -hmac "It's a Secret to Everybody"
	const want = "t=1700000000,v1=76c83fd0acdf22faed320674fe8e04d528cfe8a17905e720a9611e40677c03b7"
	if got := Sign(at, []byte(body), []byte(secret)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for name, test := range map[string]struct {
		secret, signature, body string
		now                     time.Time
		good                    bool
	}{
		"good":            {secret, want, body, at, true},
		"of two, first":   {secret, Sign(at, []byte(body), []byte(secret), []byte("new")), body, at, true},
		"of two, second":  {"new", Sign(at, []byte(body), []byte(secret), []byte("new")), body, at, true},
		"of two, neither": {"other", Sign(at, []byte(body), []byte(secret), []byte("new")), body, at, false},
		"a little later":  {secret, want, body, at.Add(time.Minute), true},
		"from the future": {secret, want, body, at.Add(-time.Minute), true},
		"much later":      {secret, want, body, at.Add(time.Hour), false},
		"another body":    {secret, want, body + " ", at, false},
		"another secret":  {"else", want, body, at, false},
		"another time":    {secret, strings.Replace(want, "17", "16", 1), body, at, false},
		"no time":         {secret, want[strings.Index(want, "v1"):], body, at, false},
		"no sum":          {secret, "t=1700000000", body, at, false},
		"no hexadecimal":  {secret, "t=1700000000,v1=zz", body, at, false},
		"nothing":         {secret, "", body, at, false},
	} {
		err := Verify([]byte(test.secret), test.signature, []byte(test.body), test.now, 5*time.Minute)
		if test.good && err != nil || !test.good && !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"90":                            90 * time.Second,
		"-5":                            0,
		"soon":                          0,
		"86400":                         mostAfter,
		"99999999999999999999":          0,
		"Wed, 04 Mar 2026 05:08:07 GMT": 2 * time.Minute,
		"Wed, 04 Mar 2026 05:00:00 GMT": 0,
		"Fri, 04 Mar 2050 05:08:07 GMT": mostAfter,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

// What an event says comes back, and is the same whenever it is said.
func TestSaid(t *testing.T) {
	var e Event
	v := reflect.ValueOf(&e).Elem()
	for _, f := range v.Fields() {
		switch f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Int64:
			f.SetInt(7)
		case reflect.Uint64:
			f.SetUint(7)
		}
	}
	later := e
	later.At, later.Seq = 8, 8
	if string(e.Said()) != string(later.Said()) {
		t.Error("it depends on when it is recorded")
	}
	got, err := Parse(e.Said())
	if err != nil {
		t.Fatal(err)
	}
	got.ID, got.Seq, got.At, got.Again = e.ID, e.Seq, e.At, e.Again
	if got != e {
		t.Errorf("got %+v, want %+v", got, e)
	}
}

// box is an outbox in memory.
type box struct {
	mu      sync.Mutex
	events  []Event // guarded by mu; of partition 0
	at      uint64  // guarded by mu
	away    bool    // guarded by mu; somebody else delivers
	read    error   // guarded by mu
	advance error   // guarded by mu
}

func (b *box) Mine(int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.away
}

func (b *box) Read(_ context.Context, p int, after uint64, limit int) ([]Event, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p != 0 || b.read != nil {
		return nil, b.read
	}
	var page []Event
	for _, e := range b.events {
		if e.Seq > after && len(page) < limit {
			page = append(page, e)
		}
	}
	return page, nil
}

func (b *box) Position(_ context.Context, p int) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at, b.read
}

func (b *box) Advance(_ context.Context, _ int, seq uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.advance == nil {
		b.at = max(b.at, seq)
	}
	return b.advance
}

func (b *box) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// Over real sockets and TLS: the requests are as they are said to be, and the
// store being away, another's turn, redirects and refusals delay but do not lose.
func TestDeliver(t *testing.T) {
	secret := []byte("secret")
	b := &box{read: errors.New("away")}
	for seq := range uint64(250) {
		b.events = append(b.events, Event{ID: "x", Seq: seq + 1, Type: Connected, Subject: "node:x"})
	}
	type call struct {
		seqs    []uint64
		attempt string
	}
	calls := make(chan call, 100)
	refusals := []int{http.StatusFound, http.StatusBadRequest}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := Verify(secret, r.Header.Get(SignatureHeader), body, time.Now(), time.Minute); err != nil {
			t.Error(err)
		}
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.URL.Path != "/events" {
			t.Errorf("%s %s of %s", r.Method, r.URL, r.Header.Get("Content-Type"))
		}
		var said request
		if err := json.Unmarshal(body, &said); err != nil || said.Partition != 0 {
			t.Errorf("partition %d, %v", said.Partition, err)
		}
		c := call{attempt: r.Header.Get("Allspark-Attempt")}
		for _, e := range said.Events {
			c.seqs = append(c.seqs, e.Seq)
		}
		calls <- c
		if len(refusals) > 0 {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(refusals[0])
			refusals = refusals[1:]
		}
	}))
	defer srv.Close()
	d := NewDeliverer(Config{
		Receiver: Receiver{URL: srv.URL + "/events", Secrets: [][]byte{secret}},
		Client:   srv.Client(), Outbox: b, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { d.Run(ctx) })
	defer running.Wait()
	defer cancel()
	b.set(func() { b.read = nil })
	d.Wake(0)
	var got []uint64
	for attempt, want := range []string{"1", "2", "3", "1", "1"} {
		c := <-calls
		if c.attempt != want || len(c.seqs) > batch {
			t.Fatalf("request %d is attempt %s with %d events, want attempt %s", attempt, c.attempt, len(c.seqs), want)
		}
		if attempt >= 2 {
			got = append(got, c.seqs...)
		}
	}
	if len(got) != 250 || !slices.IsSorted(got) || got[249] != 250 {
		t.Errorf("taken: %v", got)
	}
	b.set(func() { b.away = true })
	b.set(func() { b.events = append(b.events, Event{ID: "y", Seq: 251, Subject: "node:x"}) })
	d.Wake(0)
	b.set(func() { b.at, b.away = 251, false }) // the other one has
	b.set(func() { b.events = append(b.events, Event{ID: "z", Seq: 252, Subject: "node:x"}) })
	d.Wake(0)
	for c := range calls {
		if c.seqs[len(c.seqs)-1] == 252 {
			break
		}
	}
}

// A store that does not note what was delivered has it delivered again, but not
// over and over.
func TestDeliverUnnoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{events: []Event{{ID: "x", Seq: 1, Type: Connected, Subject: "node:x"}}, advance: errors.New("away")}
		var asked atomic.Int32
		d := NewDeliverer(Config{
			Receiver: Receiver{URL: "http://receiver/events"}, Outbox: b, Log: slog.New(slog.DiscardHandler),
			Client: &http.Client{Transport: answer(func(*http.Request) (*http.Response, error) {
				if asked.Add(1) > 1000 {
					t.Error("without end")
					b.set(func() { b.away = true })
				}
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
			})},
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		d.Run(ctx)
		if n := asked.Load(); n < 2 || n > 21 {
			t.Errorf("sent %d times in 10 s", n)
		}
	})
}

// answer is a receiver without a network.
type answer func(*http.Request) (*http.Response, error)

func (a answer) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

// An error has no URL: the receiver's may hold a secret.
func TestSendNamesNoURL(t *testing.T) {
	away := errors.New("away")
	d := NewDeliverer(Config{Receiver: Receiver{URL: "http://receiver/events?key=secret"}, Client: &http.Client{
		Transport: answer(func(*http.Request) (*http.Response, error) { return nil, away }),
	}, Log: slog.New(slog.DiscardHandler)})
	if _, err := d.send(t.Context(), 0, nil, 1); !errors.Is(err, away) || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

// A receiver gets what it wants and its own replays, in order; what it does not
// want is behind it all the same.
func TestNext(t *testing.T) {
	connected, left := Event{Type: Connected}, Event{Type: SessionLeft}
	mine, old, other := Replay("", "mine", 7), Replay("", "", 7), Replay("", "other", 7)
	for name, test := range map[string]struct {
		of    Receiver
		page  []Event
		again bool
		some  []uint64
		upTo  uint64
	}{
		"everything":            {Receiver{Name: "mine"}, []Event{connected, left}, false, []uint64{1, 2}, 2},
		"some":                  {Receiver{Name: "mine", Types: []Type{SessionLeft}}, []Event{connected, left, connected}, false, []uint64{2}, 3},
		"nothing":               {Receiver{Name: "mine", Types: []Type{PushFailed}}, []Event{connected, left}, false, nil, 2},
		"its replay first":      {Receiver{Name: "mine"}, []Event{mine, left}, true, nil, 1},
		"before its replay":     {Receiver{Name: "mine"}, []Event{connected, mine, left}, false, []uint64{1}, 1},
		"another's replay":      {Receiver{Name: "mine"}, []Event{other, connected, old}, false, []uint64{2}, 3},
		"an old replay":         {Receiver{Name: DefaultReceiver}, []Event{old}, true, nil, 1},
		"replays of all others": {Receiver{Name: DefaultReceiver}, []Event{other, mine}, false, nil, 2},
		"nothing before replay": {Receiver{Name: "mine", Types: []Type{PushFailed}}, []Event{connected, mine}, false, nil, 1},
	} {
		for i := range test.page {
			test.page[i].Seq = uint64(i + 1)
		}
		again, some, upTo := test.of.next(test.page)
		var seqs []uint64
		for _, e := range some {
			seqs = append(seqs, e.Seq)
		}
		if (again != nil) != test.again || !slices.Equal(seqs, test.some) || upTo != test.upTo {
			t.Errorf("%s: replay %v, events %v up to %d", name, again != nil, seqs, upTo)
		}
	}
}

// A receiver that says that it is gone is asked once in an hour, and gets
// everything when it is back.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{events: []Event{{ID: "x", Seq: 1, Type: Connected, Subject: "node:x"}}}
		var asked, status atomic.Int32
		status.Store(http.StatusGone)
		d := NewDeliverer(Config{
			Receiver: Receiver{URL: "http://receiver/events"}, Outbox: b, Log: slog.New(slog.DiscardHandler),
			Client: &http.Client{Transport: answer(func(*http.Request) (*http.Response, error) {
				asked.Add(1)
				return &http.Response{StatusCode: int(status.Load()), Body: http.NoBody}, nil
			})},
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { d.Run(ctx) })
		defer running.Wait()
		defer cancel()
		start := time.Now()
		time.Sleep(59 * time.Minute)
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times in the first hour", n)
		}
		if failing, paused := d.Failing(); failing != 1 || paused != 1 {
			t.Errorf("%d partitions fail and %d are paused", failing, paused)
		}
		trouble, is := d.Trouble(0)
		if !is || trouble.Attempts != 1 || !strings.Contains(trouble.Reason, "410") || trouble.Since.Sub(start) > 2*time.Second ||
			trouble.Paused.Sub(start) < time.Hour {
			t.Errorf("it says %+v", trouble)
		}
		time.Sleep(10 * time.Hour)
		if n := asked.Load(); n < 8 || n > 11 {
			t.Errorf("asked %d times in 11 hours", n)
		}
		status.Store(http.StatusOK)
		time.Sleep(80 * time.Minute)
		if at, _ := b.Position(t.Context(), 0); at != 1 || d.Stats.Delivered.Load() != 1 {
			t.Errorf("at %d, %d delivered", at, d.Stats.Delivered.Load())
		}
		if failing, paused := d.Failing(); failing+paused != 0 {
			t.Errorf("%d partitions fail and %d are paused", failing, paused)
		}
	})
}

// Who has lost a partition while it waits for a receiver, and gets it back, does
// not wait for the rest: the other one may have found the receiver well.
func TestGoneMeanwhileAnothers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{events: []Event{{ID: "x", Seq: 1, Type: Connected, Subject: "node:x"}}}
		var status atomic.Int32
		status.Store(http.StatusGone)
		d := NewDeliverer(Config{
			Receiver: Receiver{URL: "http://receiver/events"}, Outbox: b, Log: slog.New(slog.DiscardHandler),
			Client: &http.Client{Transport: answer(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: int(status.Load()), Body: http.NoBody}, nil
			})},
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { d.Run(ctx) })
		defer running.Wait()
		defer cancel()
		time.Sleep(time.Minute)
		b.set(func() { b.away = true })
		time.Sleep(10 * time.Second)
		if failing, paused := d.Failing(); failing+paused != 0 {
			t.Errorf("of another one's partitions %d fail and %d are paused", failing, paused)
		}
		status.Store(http.StatusOK)
		b.set(func() {
			b.events = append(b.events, Event{ID: "y", Seq: 2, Type: Connected, Subject: "node:x"})
			b.at, b.away = 1, false // the other one has delivered the first
		})
		time.Sleep(10 * time.Second)
		if at, _ := b.Position(t.Context(), 0); at != 2 || d.Stats.Delivered.Load() != 1 {
			t.Errorf("at %d, %d delivered", at, d.Stats.Delivered.Load())
		}
	})
}
