package systemtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/internal/mongotest"
	"github.com/allsparkrt/allspark/internal/pushtest"
)

// pushServices are push services in the test process, and what servers need to
// know of them.
type pushServices struct {
	apns *pushtest.APNs
	fcm  *pushtest.FCM
	args []string
	env  []string
}

func newPushServices(t *testing.T) *pushServices {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	p := &pushServices{apns: pushtest.NewAPNs(t), fcm: pushtest.NewFCM(t)}
	p.env = []string{"SSL_CERT_FILE=" + file("roots.pem", append(p.apns.Authority(), p.fcm.Authority()...))}
	words := "push_text:\n  de: {title: \"Neues von {sender}\", body: \"{unread} ungelesen\"}\n"
	p.args = []string{
		"--config", file("push.yaml", []byte(words)), "--push-title", "From {sender}", "--push-sound", "default", "--push-category", "MESSAGE",
		"--apns-key-file", file("key.p8", p.apns.Key), "--apns-key-id", p.apns.KeyID, "--apns-team-id", p.apns.TeamID, "--apns-url", p.apns.URL,
		"--fcm-credentials", file("account.json", p.fcm.Credentials), "--fcm-url", p.fcm.URL,
	}
	return p
}

// server starts one that sends to them.
func (p *pushServices) server(t *testing.T, extra ...string) *server {
	t.Helper()
	s := configure(t, append(p.args, extra...)...)
	s.process = start(t, append(p.env, secrets...), s.args...)
	s.waitReady()
	return s
}

// sent returns what the services have got, after waiting for so much of it.
func (p *pushServices) sent(t *testing.T, want int) []pushtest.Request {
	t.Helper()
	var all []pushtest.Request
	eventually(t, 30*time.Second, func() error {
		if all = append(p.apns.Requests(), p.fcm.Requests()...); len(all) < want {
			return fmt.Errorf("%d notifications of %d", len(all), want)
		}
		return nil
	})
	return all
}

func caller(t *testing.T, device string, servers ...string) *client.API {
	return &client.API{Servers: servers, AuthKey: keyOf(authKey(t, device))}
}

func hello(device string) envelope.Envelope {
	e := envelope.Envelope{ID: "hello-" + device, DestNode: envelope.NodeID(device)}
	e.SetPayload("a secret")
	return e
}

// A device goes away, a message comes for it, exactly one notification leaves for
// each service as that wants it, and the message is there when it is back.
func TestPush(t *testing.T) {
	p := newPushServices(t)
	s := p.server(t, "--data", t.TempDir(), "--push-after", "1s", "--push-interval", "1s")
	const apple, google = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", "registration-token-of-bobs-phone"
	bob := caller(t, "bob", s.url)
	for _, token := range []client.PushToken{
		{Service: "apns", Token: apple, App: "com.example.app"},
		{Service: "fcm", Token: google, Locale: "de-AT"},
	} {
		if err := bob.PutPushToken(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	here := dial(t, client.Options{Servers: []string{s.url}, AuthKey: authKey(t, "bob")})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := here.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := caller(t, "alice", s.url).SendHTTP(t.Context(), hello("bob")); err != nil {
		t.Fatal(err)
	}
	p.sent(t, 2)

	if requests := p.apns.Requests(); len(requests) == 1 {
		r := requests[0]
		for name, want := range map[string]string{
			"apns-topic": "com.example.app", "apns-push-type": "alert", "apns-priority": "10",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		expires, err := strconv.ParseInt(r.Header.Get("apns-expiration"), 10, 64)
		if week := time.Now().AddDate(0, 0, 7).Unix(); err != nil || expires < week-60 || expires > week || r.Header.Get("apns-collapse-id") == "" {
			t.Errorf("%v", r.Header)
		}
		body := fmt.Sprintf(`{"aps":{"alert":{"loc-args":["alice","","1"],"loc-key":"allspark_message","title":"From alice"},"badge":1,"category":"MESSAGE",`+
			`"sound":"default","thread-id":%q},"log":"node:bob","seq":"1"}`, r.Header.Get("apns-collapse-id"))
		if r.Status != http.StatusOK || r.Path != "/3/device/"+apple || !sameJSON(t, r.Body, body) {
			t.Errorf("Apple: %d %s %s, want %s", r.Status, r.Path, r.Body, body)
		}
	} else {
		t.Errorf("%d requests to Apple", len(requests))
	}
	if requests := p.fcm.Requests(); len(requests) == 1 {
		var got struct {
			Message struct {
				Token   string
				Data    map[string]string
				Android struct {
					Priority     string
					Notification struct{ Title, Body string }
				}
				APNs struct{ Headers map[string]string }
			}
		}
		r := requests[0]
		err := json.Unmarshal(r.Body, &got)
		m := got.Message
		if err != nil || r.Status != http.StatusOK || m.Token != google || m.Android.Priority != "HIGH" || m.Data["log"] != "node:bob" ||
			m.Android.Notification.Title != "Neues von alice" || m.Android.Notification.Body != "1 ungelesen" || m.APNs.Headers["apns-priority"] != "10" {
			t.Errorf("Google: %d %s, %v", r.Status, r.Body, err)
		}
		if strings.Contains(string(r.Body), "a secret") {
			t.Error("the message went along")
		}
	} else {
		t.Errorf("%d requests to Google", len(requests))
	}

	back := dial(t, client.Options{Servers: []string{s.url}, AuthKey: authKey(t, "bob")})
	m, err := back.Receive(ctx)
	if body, _ := m.Member("payload"); err != nil || string(body) != `"a secret"` {
		t.Errorf("on return there is %s, %v", body, err)
	}
	if strings.Contains(s.log.String(), google) || strings.Contains(s.log.String(), apple) {
		t.Error("a push token is in the log")
	}
	// An operator tries it, and sees what the service has against it.
	p.fcm.Then(pushtest.FCMError(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"))
	out, stderr, code := run(t, "push", "test", "--title", "Hello", "--server", s.url, "--auth-key", authKey(t, "bob"))
	if code != 0 || !strings.Contains(out, "SENDER_ID_MISMATCH") || strings.Count(out, "\n") != 3 {
		t.Errorf("exit %d, %s%s", code, out, stderr)
	}
	if all := p.sent(t, 4); len(all) != 4 {
		t.Errorf("%d notifications, want 4", len(all))
	}
}

// sameJSON reports whether two texts are the same value.
func sameJSON(t *testing.T, a []byte, b string) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(b), &y); err != nil {
		t.Fatal(err)
	}
	one, _ := json.Marshal(x)
	other, _ := json.Marshal(y)
	return string(one) == string(other)
}

// A server is killed that has taken messages and told nobody yet: each is told
// once, by another.
func TestPushAfterACrash(t *testing.T) {
	p := newPushServices(t)
	uri, db := mongotest.URI(t), mongotest.Database(t)
	args := []string{"--mongodb-uri", uri, "--mongodb-database", db, "--push-after", "10s", "--push-interval", "1s"}
	a := p.server(t, args...)
	b := p.server(t, append(args, "--join", a.gossip)...)
	eventually(t, 10*time.Second, func() error { return linked(b, 1) })
	const devices = 5
	for i := range devices {
		id := fmt.Sprint("phone", i)
		if err := caller(t, id, b.url).PutPushToken(t.Context(), client.PushToken{Service: "fcm", Token: "registration-token-of-" + id}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range devices {
		if _, err := caller(t, "alice", a.url).SendHTTP(t.Context(), hello(fmt.Sprint("phone", i))); err != nil {
			t.Fatal(err)
		}
	}
	a.kill()
	if n := len(p.fcm.Requests()); n != 0 {
		t.Fatalf("%d notifications before the crash; the test was too slow", n)
	}
	p.sent(t, devices)

	<-time.After(5 * time.Second) // in which a second one would leave: the interval is 1 s
	of := make(map[string]int)
	for _, r := range p.fcm.Requests() {
		var got struct{ Message struct{ Token string } }
		if err := json.Unmarshal(r.Body, &got); err != nil {
			t.Fatal(err)
		}
		of[got.Message.Token]++
	}
	for token, n := range of {
		if n != 1 {
			t.Errorf("%s: %d notifications", token, n)
		}
	}
	if len(of) != devices {
		t.Errorf("%d devices were told, want %d", len(of), devices)
	}
	back := dial(t, client.Options{Servers: []string{b.url}, AuthKey: authKey(t, "phone0")})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if m, err := back.Receive(ctx); err != nil || m.ID != "hello-phone0" {
		t.Errorf("on return there is %q, %v", m.ID, err)
	}
}
