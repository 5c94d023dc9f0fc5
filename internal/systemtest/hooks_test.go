package systemtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/hook"
	"github.com/allsparkrt/allspark/internal/mongotest"
)

const (
	hookSecret         = "what the backend knows to tell who speaks to it"
	hookPreviousSecret = "what it has known before that and still knows now"
)

// victimOf is what an event is about whose delivery a server dies of.
const victimOf = "node:away-0"

// backend is an app's backend that is told of events. It holds against what is
// promised that each request is signed by both secrets, that in each partition
// seqs rise, and that what comes again is the same.
type backend struct {
	t      *testing.T
	down   atomic.Bool
	victim atomic.Pointer[server] // killed when an event about victimOf has been taken, before that is answered

	mu       sync.Mutex
	at       map[int]uint64        // guarded by mu; by partition
	seen     map[string]hook.Event // guarded by mu; by id
	events   []hook.Event          // guarded by mu; each once
	repeated int                   // guarded by mu
	refused  int                   // guarded by mu; requests while it was down
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the server was killed
	}
	var said struct {
		Partition int
		Events    []hook.Event
	}
	signature := r.Header.Get(hook.SignatureHeader)
	for _, secret := range []string{hookSecret, hookPreviousSecret} {
		err = errors.Join(err, hook.Verify([]byte(secret), signature, body, time.Now(), time.Minute))
	}
	if err := errors.Join(err, json.Unmarshal(body, &said)); err != nil {
		b.t.Error(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down.Load() {
		b.refused++
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	for _, e := range said.Events {
		was, known := b.seen[e.ID]
		switch {
		case known && was != e, !known && e.Seq <= b.at[said.Partition], hook.Partition(e.Subject) != said.Partition:
			b.t.Errorf("in partition %d, at seq %d, came %+v, which was %+v", said.Partition, b.at[said.Partition], e, was)
		case known:
			b.repeated++
		default:
			b.at[said.Partition], b.seen[e.ID] = e.Seq, e
			b.events = append(b.events, e)
		}
		if e.Subject != victimOf {
			continue
		}
		if v := b.victim.Swap(nil); v != nil {
			v.kill()
		}
	}
}

// told returns the events of some types about a subject; "" is any.
func (b *backend) told(subject string, types ...hook.Type) []hook.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	var some []hook.Event
	for _, e := range b.events {
		if slices.Contains(types, e.Type) && (subject == "" || e.Subject == subject) {
			some = append(some, e)
		}
	}
	return some
}

// appKey mints a key of the app.
func appKey(t *testing.T) string {
	t.Helper()
	key, err := auth.Mint(auth.MintKey{Secret: auth.Secret(tokenSecret)}, auth.Claims{
		Client: "backend", App: true, Issued: time.Now(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// hooksState asks the program how far the only receiver has got.
func hooksState(t *testing.T, server string) client.HookReceiver {
	t.Helper()
	out, stderr, code := run(t, "hooks", "--json", "--server", server, "--auth-key", appKey(t))
	var receivers []client.HookReceiver
	if err := json.Unmarshal([]byte(out), &receivers); code != 0 || err != nil || len(receivers) != 1 {
		t.Fatalf("exit %d, %s, %s, %v", code, out, stderr, err)
	}
	return receivers[0]
}

// A server is killed when the backend has taken what it delivers, and then the
// backend is away for a while: everything is told in order, what comes twice is
// the same, and the killed server's connections are lost.
func TestHooks(t *testing.T) {
	b := &backend{t: t, at: make(map[int]uint64), seen: make(map[string]hook.Event)}
	receiver := httptest.NewServer(b)
	defer receiver.Close()
	uri, db := mongotest.URI(t), mongotest.Database(t)
	var servers []*server
	var urls []string
	for range 3 {
		args := []string{
			"--mongodb-uri", uri, "--mongodb-database", db,
			"--hook-url", receiver.URL + "/events", "--hook-secret", hookSecret, "--hook-previous-secret", hookPreviousSecret,
		}
		if len(servers) > 0 {
			args = append(args, "--join", servers[0].gossip)
		}
		servers = append(servers, newServer(t, args...))
		urls = append(urls, servers[len(servers)-1].url)
	}
	for _, s := range servers {
		eventually(t, 15*time.Second, func() error { return linked(s, 2) })
	}
	ann := &client.API{Servers: urls, AuthKey: keyOf(authKey(t, "ann"))}
	repeatedly := func(what string, call func() error) {
		t.Helper()
		eventually(t, 60*time.Second, func() error {
			if err := call(); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			return nil
		})
	}
	yes := true
	repeatedly("create", func() error {
		_, err := ann.CreateSession(t.Context(), "room", envelope.Settings{AnyoneCanJoin: &yes})
		return err
	})
	session := []string{"session.created ann", "session.joined ann"}
	offline := make(map[string][]string) // by subject: ids of messages, in their order
	round := 0
	work := func() {
		for range 4 {
			round++
			bob := fmt.Sprint("bob-", round)
			api := &client.API{Servers: urls, AuthKey: keyOf(authKey(t, bob))}
			repeatedly("join", func() error { _, err := api.JoinSession(t.Context(), "room"); return err })
			for i := range 3 {
				to, id := fmt.Sprint("away-", i), fmt.Sprintf("%d-%d", round, i)
				repeatedly("send", func() error {
					e := envelope.Envelope{DestNode: envelope.NodeID(to), ID: id}
					e.SetPayload("x")
					_, err := ann.SendHTTP(t.Context(), e)
					return err
				})
				offline["node:"+to] = append(offline["node:"+to], id)
			}
			if round%2 == 0 {
				repeatedly("leave", func() error { _, err := api.LeaveSession(t.Context(), "room"); return err })
				session = append(session, "session.joined "+bob, "session.left "+bob)
			} else {
				session = append(session, "session.joined "+bob)
			}
		}
	}
	for i := range 12 {
		dial(t, client.Options{Servers: urls, AuthKey: authKey(t, deviceName(i))})
	}
	work()
	var killed envelope.ServerID // it delivers what is told of victimOf
	for _, p := range hooksState(t, urls[0]).Partitions {
		if p.Partition == hook.Partition(victimOf) {
			killed = p.Server
		}
	}
	at := slices.IndexFunc(servers, func(s *server) bool { return s.url == "http://"+string(killed) })
	if at < 0 {
		t.Fatalf("%q delivers what is told of %s", killed, victimOf)
	}
	var there []hook.Event // connections at the server that will be killed
	eventually(t, 30*time.Second, func() error {
		all := b.told("", hook.Connected)
		there = slices.DeleteFunc(slices.Clone(all), func(e hook.Event) bool { return e.Server != killed })
		if len(all) != 12 || len(there) == 0 {
			return fmt.Errorf("%d connections told, %d of them at %s", len(all), len(there), killed)
		}
		return nil
	})
	b.victim.Store(servers[at])
	work()
	servers[at].wait(30 * time.Second)
	b.down.Store(true)
	urls = slices.Delete(slices.Clone(urls), at, at+1)
	ann.Servers = urls
	work()
	eventually(t, 30*time.Second, func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.refused == 0 {
			return errors.New("nobody has tried while it was down")
		}
		return nil
	})
	b.down.Store(false)
	work()

	eventually(t, 90*time.Second, func() error {
		var told []string
		for _, e := range b.told("session:room", hook.SessionCreated, hook.SessionJoined, hook.SessionLeft) {
			told = append(told, fmt.Sprint(e.Type, " ", e.Node))
		}
		if !slices.Equal(told, session) {
			return fmt.Errorf("of the session was told %q, want %q", told, session)
		}
		for subject, want := range offline {
			var ids []string
			for i, e := range b.told(subject, hook.Offline) {
				if ids = append(ids, e.MessageID); e.MessageSeq != uint64(i+1) {
					return fmt.Errorf("of %s was told %d before %d", subject, e.MessageSeq, i+1)
				}
			}
			if !slices.Equal(ids, want) {
				return fmt.Errorf("of %s was told %q, want %q", subject, ids, want)
			}
		}
		ended := make(map[string]hook.Event) // by connection
		for _, e := range b.told("", hook.Disconnected) {
			ended[e.Connection] = e
		}
		for _, e := range there {
			if end := ended[e.Connection]; end.Reason != "lost" || end.Node != e.Node || end.Server != killed {
				return fmt.Errorf("the end of %+v was told as %+v", e, end)
			}
		}
		return nil
	})
	ended := make(map[string]int)
	for _, e := range b.told("", hook.Disconnected) {
		if ended[e.Connection]++; ended[e.Connection] > 1 {
			t.Errorf("told twice: %+v", e)
		}
	}

	// An operator sees that nothing is left.
	eventually(t, 30*time.Second, func() error {
		for _, p := range hooksState(t, urls[0]).Partitions {
			if p.Lag > 0 || p.FailingSince > 0 || p.Server == "" || p.Server == killed {
				return fmt.Errorf("partition %d: %+v", p.Partition, p)
			}
		}
		return nil
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.repeated == 0 {
		t.Error("what the killed server had delivered did not come again")
	}
	t.Logf("%d events told, %d of them again, %d requests while the backend was down", len(b.events), b.repeated, b.refused)
}
