package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/gateway/native"
	"github.com/allsparkrt/allspark/inbox"
)

// edit returns an edit of an entry.
func edit(addr envelope.Address, id string, seq uint64, text string) envelope.Envelope {
	e := to(addr, id, text)
	e.Edits = seq
	return e
}

// deletion returns a deletion of an entry.
func deletion(addr envelope.Address, id string, seq uint64) envelope.Envelope {
	e := to(addr, id, "")
	e.Body, e.Deletes = nil, seq
	return e
}

// sendAs sends for a device of a user, at a server.
func (m *mesh) sendAs(who envelope.Principal, at string, e envelope.Envelope) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ev, err := m.at(at).Do(ctx, who, gateway.Send{Envelope: &e})
	if err != nil {
		return 0, err
	}
	return ev.(gateway.Ack).Seq, nil
}

// mustSendAs is sendAs for what is not refused.
func (m *mesh) mustSendAs(id, at string, e envelope.Envelope) uint64 {
	m.t.Helper()
	seq, err := m.sendAs(as(id), at, e)
	if err != nil {
		m.t.Fatal(err)
	}
	return seq
}

// as returns a user with a device of the same name.
func as(id string) envelope.Principal {
	return envelope.Principal{Node: envelope.NodeID(id), Client: envelope.ClientID(id)}
}

// bodies returns what a page shows of each entry: its seq, and what its sender
// and its revisions say.
func (p *historyPage) bodies(t testing.TB) (all []string) {
	t.Helper()
	parser := envelope.Parser{From: envelope.FromServer}
	for _, raw := range p.Messages {
		e, err := parser.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%d %s", e.Seq, e.Body))
	}
	return all
}

// Who may edit and delete what.
func TestMayRevise(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		ctx := t.Context()
		do := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		r := room("r")
		api := func(id string) *client.API { return m.api(id, id, "a") }
		do(second(api("alice").CreateSession(ctx, "r", envelope.Settings{}))) // 1
		do(second(api("bob").JoinSession(ctx, "r")))                          // 2
		do(second(api("mara").JoinSession(ctx, "r")))
		for _, id := range []string{"mara", "max"} {
			if id == "max" {
				do(second(api(id).JoinSession(ctx, "r")))
			}
			do(second(m.at("a").Do(ctx, as("alice"), gateway.ChangeMember{ID: "r", Action: gateway.SetRole, Node: envelope.NodeID(id), Role: "moderator"})))
		}
		early := m.mustSendAs("alice", "a", to(r, "early", "early"))
		do(second(api("carol").JoinSession(ctx, "r")))
		said := m.mustSendAs("bob", "a", to(r, "said", "said"))
		rude := m.mustSendAs("bob", "a", to(r, "rude", "rude"))
		ruder := m.mustSendAs("bob", "a", to(r, "ruder", "ruder"))
		mod := m.mustSendAs("max", "a", to(r, "mod", "mod"))
		deleted := m.mustSendAs("alice", "a", to(r, "deleted", "deleted"))
		deleting := m.mustSendAs("alice", "a", deletion(r, "deleting", deleted))
		own := m.mustSendAs("alice", "a", to(r, "own", "own"))
		edited := m.mustSendAs("alice", "a", edit(r, "edited", own, "own, edited"))
		short := to(r, "short", "short")
		short.TTL = 1
		expired := m.mustSendAs("alice", "a", short)
		do(second(api("dave").JoinSession(ctx, "r")))
		left := m.mustSendAs("dave", "a", to(r, "left", "left"))
		do(second(api("dave").LeaveSession(ctx, "r")))
		time.Sleep(2 * time.Second)

		bob := deviceAddr("bob")
		trimmed := m.mustSendAs("alice", "a", to(bob, "trimmed", "trimmed"))
		private := to(bob, "private", "private")
		private.DestSession = "r"
		inRoom := m.mustSendAs("alice", "a", private)
		direct := m.mustSendAs("alice", "a", to(bob, "direct", "direct"))
		toUser := m.mustSendAs("alice", "a", to(user("bob"), "user", "user"))
		do(m.store.Trim(ctx, bob, trimmed+1, time.Time{}))
		privately := edit(bob, "x", inRoom, "private, edited")
		privately.DestSession = "r"
		moderated := deletion(bob, "", inRoom)
		moderated.DestSession = "r"
		const mara = 3 // where she joined
		tablet := envelope.Principal{Node: "tablet", Client: "alice"}

		for i, tt := range []struct {
			name string
			who  envelope.Principal
			env  envelope.Envelope
			want envelope.Code
		}{
			{"edits its own", as("alice"), edit(r, "", own, "x"), ""},
			{"edits it again", as("alice"), edit(r, "", own, "y"), ""},
			{"edits what came before another joined", as("alice"), edit(r, "", early, "x"), ""},
			{"edits another's", as("alice"), edit(r, "", said, "x"), envelope.Forbidden},
			{"deletes another's", as("bob"), deletion(r, "", own), envelope.Forbidden},
			{"deletes what it does not see", as("carol"), deletion(r, "", early), envelope.NotFound},
			{"edits its own joining", as("bob"), edit(r, "", 2, "x"), envelope.Forbidden},
			{"deletes another's joining", as("bob"), deletion(r, "", 1), envelope.NotFound},
			{"edits an edit", as("alice"), edit(r, "", edited, "x"), envelope.Forbidden},
			{"deletes a deletion", as("alice"), deletion(r, "", deleting), envelope.Forbidden},
			{"edits what it has deleted", as("alice"), edit(r, "", deleted, "x"), envelope.NotFound},
			{"deletes it once more", as("alice"), deletion(r, "", deleted), envelope.NotFound},
			{"repeats the deletion", as("alice"), deletion(r, "deleting", deleted), ""},
			{"repeats an edit", as("alice"), edit(r, "edited", own, "own, edited"), ""},
			{"repeats it otherwise", as("alice"), edit(r, "edited", deleted, "own, edited"), envelope.Conflict},
			{"edits what has expired", as("alice"), edit(r, "", expired, "x"), envelope.NotFound},
			{"edits what comes later", as("alice"), edit(r, "", 1000, "x"), envelope.NotFound},
			{"edits what never comes", as("alice"), edit(r, "", 1<<53, "x"), envelope.NotFound},
			{"moderator deletes a member's", as("mara"), deletion(r, "", rude), ""},
			{"moderator deletes the owner's", as("mara"), deletion(r, "", own), envelope.Forbidden},
			{"moderator deletes another moderator's", as("mara"), deletion(r, "", mod), envelope.Forbidden},
			{"moderator deletes what somebody left behind", as("mara"), deletion(r, "", left), ""},
			{"moderator edits a member's", as("mara"), edit(r, "", said, "x"), envelope.Forbidden},
			{"moderator deletes a note of the server", as("mara"), deletion(r, "", mara), envelope.Forbidden},
			{"sender edits what a moderator has deleted", as("bob"), edit(r, "", rude, "x"), envelope.NotFound},
			{"owner deletes a member's", as("alice"), deletion(r, "", ruder), ""},
			{"owner deletes a moderator's", as("alice"), deletion(r, "", mod), ""},
			{"moderator deletes what was sent within the session", as("mara"), moderated, envelope.NotFound},
			{"has left", as("dave"), edit(r, "", left, "x"), envelope.NotFound},
			{"never was there", as("eve"), deletion(r, "", own), envelope.NotFound},
			{"with another device that is not there", tablet, deletion(r, "", own), envelope.NotFound},

			{"edits what it sent to a device", as("alice"), edit(bob, "", direct, "x"), ""},
			{"from another device", tablet, edit(bob, "", direct, "y"), ""},
			{"edits what it sent to a user", as("alice"), edit(user("bob"), "", toUser, "x"), ""},
			{"edits what was trimmed", as("alice"), edit(bob, "", trimmed, "x"), envelope.NotFound},
			{"edits what it sent within a session", as("alice"), privately, ""},
			{"edits that otherwise than it was sent", as("alice"), edit(bob, "", inRoom, "x"), envelope.NotFound},
			{"edits what it was sent", as("bob"), edit(bob, "", direct, "x"), envelope.Forbidden},
			{"deletes what it was sent", as("bob"), deletion(bob, "", direct), envelope.Forbidden},
			{"edits what others were sent", as("eve"), edit(bob, "", direct, "x"), envelope.NotFound},
			{"edits what others were not sent", as("eve"), edit(bob, "", direct+1000, "x"), envelope.NotFound},
			{"deletes what it sent", as("alice"), deletion(bob, "", direct), ""},
		} {
			if tt.env.ID == "" {
				tt.env.ID = fmt.Sprint("revision", i)
			}
			_, err := m.sendAs(tt.who, string("ab"[i%2]), tt.env)
			if envelope.CodeOf(err) != tt.want {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
			}
		}
		// What one may not see looks as if it was not there.
		_, one := m.sendAs(as("eve"), "a", edit(bob, "e1", inRoom, "x"))
		_, other := m.sendAs(as("eve"), "a", edit(bob, "e2", 1000, "x"))
		if one.Error() != other.Error() {
			t.Errorf("%v, or %v", one, other)
		}
	})
}

// An edit whose entry has been trimmed can be deleted by itself.
func TestDeleteEditOfTrimmed(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.must("ann", "/v1/sessions", `{"session_id":"r"}`)
		m.must("bob", "/v1/sessions/r/join", "")
		r := room("r")
		m.mustSendAs("bob", "a", to(r, "1", "one")) // 3
		m.mustSendAs("bob", "a", edit(r, "2", 3, "two"))
		if _, err := m.sendAs(as("ann"), "a", deletion(r, "3", 4)); envelope.CodeOf(err) != envelope.Forbidden {
			t.Errorf("an edit of what is there was deleted: %v", err)
		}
		if err := m.store.Trim(t.Context(), r, 4, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.sendAs(as("bob"), "a", edit(r, "4", 4, "three")); envelope.CodeOf(err) != envelope.Forbidden {
			t.Errorf("an edit was edited: %v", err)
		}
		m.mustSendAs("ann", "b", deletion(r, "5", 4))
		var p historyPage
		if code := m.ask("ann", "b", "/v1/messages?log=session:r", &p); code != "" || len(p.Messages) != 2 {
			t.Fatal(code, p)
		}
		if got := p.bodies(t)[0]; got != `4 "deleted":true` {
			t.Errorf("it is still there: %s", got)
		}
	})
}

// An entry can be edited so often, and then still deleted.
func TestEditedOften(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		seq := m.mustSendAs("alice", "a", to(user("bob"), "0", "0"))
		for i := range maxEdits {
			m.mustSendAs("alice", "a", edit(user("bob"), fmt.Sprint(i+1), seq, fmt.Sprint(i+1)))
		}
		if _, err := m.sendAs(as("alice"), "a", edit(user("bob"), "more", seq, "more")); envelope.CodeOf(err) != envelope.Forbidden {
			t.Errorf("got %v", err)
		}
		if got, _ := m.pagesBack("bob", "a", "log=client:bob", 0); !slices.Equal(got, []string{fmt.Sprint(maxEdits)}) {
			t.Errorf("got %q", got)
		}
		m.mustSendAs("alice", "a", deletion(user("bob"), "deleted", seq))
	})
}

// Edits and deletions come live as what they are, and in pages as what they
// have made of the entries; what was not revised is as it was sent.
func TestRevisions(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice, bob := m.client("alice", "a").connected(m), m.raw("bob", "b")
		bob.hello("")
		bob.control("caught_up")
		log := user("bob")
		plain := to(log, "1", "one")
		plain.Body = []byte("\"payload\":{ \"a\":\n1e3 },\"x\":\"<ä>\"")
		alice.send(plain)
		two := alice.send(to(log, "2", "two")).Seq
		three := alice.send(to(log, "3", "three")).Seq
		alice.send(edit(log, "4", two, "zwei"))
		at := time.Now().UnixMilli()
		second := edit(log, "5", two, "due")
		second.Body = append(second.Body, `,"payload1":[1]`...)
		alice.send(second)
		alice.send(deletion(log, "6", three))
		for _, id := range []string{"1", "2", "3"} {
			if f, err := bob.next(time.Minute); err != nil || f.msg.ID != id {
				t.Fatalf("%s, %v", f.text, err)
			}
		}
		for _, want := range []string{
			`"seq":4,"edits":2,"payload":"zwei"}`,
			`"seq":5,"edits":2,"payload":"due","payload1":[1]}`,
			`"seq":6,"deletes":3}`,
		} {
			if f, err := bob.next(time.Minute); err != nil || !strings.HasSuffix(string(f.text), want) {
				t.Errorf("live came %s, %v; want %s", f.text, err, want)
			}
		}
		want := []string{
			"1 " + string(plain.Body),
			fmt.Sprintf(`2 "edited":{"seq":5,"timestamp":%d},"payload":"due","payload1":[1]`, at),
			`3 "deleted":true`,
		}
		themselves := []string{`4 "payload":"zwei"`, `5 "payload":"due","payload1":[1]`, `6 `}
		for _, query := range []string{"&after=0", "&before=0", "&before=4", "&since=1", fmt.Sprint("&until=", at)} {
			want := want
			if strings.HasPrefix(query, "&after") || strings.HasPrefix(query, "&since") {
				want = slices.Concat(want, themselves)
			}
			for _, server := range []string{"a", "b"} {
				var p backPage
				if code := m.ask("bob", server, "/v1/messages?log=client:bob"+query, &p); code != "" || !slices.Equal(p.bodies(t), want) || p.Head != 6 || p.More {
					t.Errorf("%s at %s: %s, %q, %+v", query, server, code, p.bodies(t), p)
				}
			}
		}
		var p historyPage
		if code := m.ask("bob", "a", "/v1/messages?log=client:bob&after=3", &p); code != "" || !slices.Equal(p.bodies(t), themselves) || p.Next != 6 || p.More {
			t.Errorf("behind them: %s, %+v", code, p)
		}
	})
}

// A member sees the edits that were made while it was in; what was deleted
// nobody sees any more.
func TestRevisionsAndStays(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		bob := m.api("bob", "bob", "b")
		if err := second(m.api("alice", "alice", "a").CreateSession(t.Context(), "r", envelope.Settings{})); err != nil {
			t.Fatal(err)
		}
		if err := second(bob.JoinSession(t.Context(), "r")); err != nil {
			t.Fatal(err)
		}
		one := m.mustSendAs("alice", "a", to(room("r"), "1", "one"))
		two := m.mustSendAs("alice", "a", to(room("r"), "2", "two"))
		m.mustSendAs("alice", "a", edit(room("r"), "3", one, "uno"))
		if err := second(bob.LeaveSession(t.Context(), "r")); err != nil {
			t.Fatal(err)
		}
		m.mustSendAs("alice", "a", edit(room("r"), "4", one, "not for bob"))
		m.mustSendAs("alice", "a", deletion(room("r"), "5", two))
		for _, device := range []struct{ id, one string }{{"bob", "uno"}, {"alice", "not for bob"}} {
			forth, _ := m.pages(device.id, "b", "log=session:r", one-1)
			back, _ := m.pagesBack(device.id, "b", "log=session:r&limit=1", two+1)
			if forth[0] != device.one || forth[1] != "" || !slices.Equal(back[len(back)-2:], forth[:2]) {
				t.Errorf("%s sees %q, backwards %q", device.id, forth, back)
			}
		}
	})
}

// What was deleted before a device has read it does not come to it any more,
// in whatever form; nor do the edits of it.
func TestDeletedBeforeRead(t *testing.T) {
	for _, logs := range []int{1, 3} { // alone, and together with others
		inMesh(t, 2, func(t *testing.T, m *mesh) {
			addrs := []envelope.Address{deviceAddr("bob"), user("bob"), room("r")}[:logs]
			if err := second(m.api("alice", "alice", "a").CreateSession(t.Context(), "r", envelope.Settings{})); err != nil {
				t.Fatal(err)
			}
			if err := second(m.api("bob", "bob", "a").JoinSession(t.Context(), "r")); err != nil {
				t.Fatal(err)
			}
			for _, addr := range addrs {
				seen := m.mustSendAs("alice", "a", to(addr, "0", "secret"))
				if addr.Kind != envelope.KindSession { // it has been handled, but not what edits it
					m.at("a").inbox.Acknowledge("bob", addr, seen)
				}
				seq := m.mustSendAs("alice", "a", to(addr, "1", "secret"))
				m.mustSendAs("alice", "a", edit(addr, "2", seq, "secret too"))
				m.mustSendAs("alice", "a", edit(addr, "3", seen, "secret as well"))
				m.mustSendAs("alice", "a", to(addr, "4", "public"))
				m.mustSendAs("alice", "a", deletion(addr, "5", seq))
				m.mustSendAs("alice", "a", deletion(addr, "6", seen))
			}
			pass(3 * time.Second)
			who := envelope.Principal{Node: "bob", Client: "bob"}
			ev, err := m.at("b").Do(t.Context(), who, gateway.FetchPending{})
			if err != nil {
				t.Fatal(err)
			}
			p := parsePending(t, native.NewCodec(true).Append(nil, ev))
			pending := strings.Join(p.Messages, "\n")
			if strings.Contains(pending, "secret") || strings.Count(pending, "public") != logs || strings.Count(pending, `"deleted":true`) < 3*logs {
				t.Errorf("pending is %s", pending)
			}
			bob := m.raw("bob", "b")
			bob.hello("")
			var replayed []string
			for {
				f, err := bob.next(time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				if f.ctl.Control == "caught_up" {
					break
				}
				replayed = append(replayed, string(f.text))
			}
			all := strings.Join(replayed, "\n")
			if strings.Contains(all, "secret") || strings.Count(all, "public") != logs || strings.Count(all, `"deletes":`) != 2*logs ||
				strings.Count(all, `"edits":`) != 2*logs || strings.Count(all, `"deleted":true`) < 3*logs {
				t.Errorf("replayed was\n%s", all)
			}
		})
	}
}

// A device is not sent what was deleted because the store cannot say so at the moment.
func TestRevisionsAway(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		log := user("bob")
		seq := m.mustSendAs("alice", "a", to(log, "1", "secret"))
		m.mustSendAs("alice", "a", deletion(log, "2", seq))
		away := func(is bool) {
			m.at("a").store.set(func(f *faultyStore) {
				f.before = func(op string) error {
					if is && op == "revisions" {
						return errAway
					}
					return nil
				}
			})
		}
		away(true)
		bob := m.raw("bob", "a")
		bob.hello("")
		pass(10 * time.Second)
		var p historyPage
		if code := m.ask("bob", "a", "/v1/messages?log=client:bob", &p); code != envelope.Busy {
			t.Errorf("history: %q", code)
		}
		if _, err := m.sendAs(as("alice"), "a", edit(log, "3", seq, "x")); envelope.CodeOf(err) != envelope.Busy {
			t.Errorf("an edit: %v", err)
		}
		away(false)
		if f, err := bob.next(time.Minute); err != nil || !strings.HasSuffix(string(f.text), `"seq":1,"deleted":true}`) {
			t.Errorf("%s, %v", f.text, err)
		}
	})
}

// A page is of bounded size, also when its entries were short before edits,
// whatever the order of these.
func TestEditedPageIsBounded(t *testing.T) {
	for _, backwards := range []bool{false, true} {
		inMesh(t, 1, func(t *testing.T, m *mesh) {
			large := strings.Repeat("x", inbox.PageBytes*2/5)
			for i := range 10 {
				m.mustSendAs("alice", "a", to(user("bob"), fmt.Sprint(i), fmt.Sprint(i)))
			}
			var want, edits []string
			for i := range 10 {
				want = append(want, fmt.Sprint("edited ", i))
				if backwards {
					i = 9 - i
				}
				e := edit(user("bob"), fmt.Sprint("edit", i), uint64(i+1), fmt.Sprint("edited ", i))
				edits = append(edits, fmt.Sprint("edited ", i))
				e.Body = fmt.Appendf(e.Body, `,"x":%q`, large)
				m.mustSendAs("alice", "a", e)
			}
			for _, query := range []string{"&after=0", "&before=11"} {
				var p historyPage
				if code := m.ask("bob", "a", "/v1/messages?log=client:bob"+query, &p); code != "" || len(p.Messages) != 2 {
					t.Errorf("%s: %s, %d messages", query, code, len(p.Messages))
				}
			}
			forth, _ := m.pages("bob", "a", "log=client:bob", 0)
			back, _ := m.pagesBack("bob", "a", "log=client:bob", 0)
			if !slices.Equal(forth, slices.Concat(want, edits)) || !slices.Equal(back, want) {
				t.Errorf("%q, backwards %q", forth, back)
			}
		})
	}
}

// The edits of a page are looked up together.
func TestEditedPageIsReadAtOnce(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		const entries = 60
		for i := range entries {
			m.mustSendAs("alice", "a", to(user("bob"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		for _, i := range rand.Perm(entries) {
			m.mustSendAs("alice", "a", edit(user("bob"), fmt.Sprint("edit", i), uint64(i+1), fmt.Sprint("edited ", i)))
		}
		calls := m.at("a").counted()
		var p historyPage
		if code := m.ask("bob", "a", fmt.Sprintf("/v1/messages?log=client:bob&limit=%d", entries), &p); code != "" {
			t.Fatal(code)
		}
		for i, got := range p.texts(t) {
			if got != fmt.Sprint("edited ", i) {
				t.Errorf("entry %d is %q", i, got)
			}
		}
		if n := calls.take()["read"]; n != 2 || len(p.Messages) != entries {
			t.Errorf("%d reads for %d entries", n, len(p.Messages))
		}
	})
}
