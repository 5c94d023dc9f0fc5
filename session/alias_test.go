package session_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

var (
	anyName = session.As{Anonymous: true}
	app     = envelope.Principal{Node: "app", Client: "app", App: true}
)

func as(name string) session.As { return session.As{Anonymous: true, Name: name} }

func alias(name string) envelope.NodeID { return envelope.AliasOf("r", name) }

// log returns the entries of session r.
func (w *world) log(t *testing.T) []envelope.Envelope {
	t.Helper()
	log, err := w.store.Read(context.WithoutCancel(t.Context()), envelope.SessionID("r").Address(), 0, 1000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// notes says who joined, left and so on: "100 alice".
func (w *world) notes(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, e := range w.log(t) {
		all = append(all, fmt.Sprint(e.Type, " ", e.SrcNode))
	}
	return all
}

// put makes a device's memberships of session r what the words say.
func (w *world) put(t *testing.T, id, state string) {
	t.Helper()
	ctx, me := t.Context(), who(id)
	do := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", state, err)
		}
	}
	broken := func(call func() error) {
		t.Helper()
		w.err = errAway
		if err := call(); envelope.CodeOf(err) != envelope.Busy {
			t.Fatalf("%s: %v", state, err)
		}
		w.err = nil
	}
	switch state {
	case "none":
	case "by name":
		do(w.Join(ctx, me, "r", session.As{}))
	case "by alias":
		do(w.Join(ctx, me, "r", as(id)))
	case "joining by alias":
		broken(func() error { _, err := w.Join(ctx, me, "r", as(id)); return err })
	case "revealing":
		w.put(t, id, "by alias")
		broken(func() error { _, err := w.Reveal(ctx, me, "r"); return err })
	case "revealed":
		w.put(t, id, "by alias")
		do(w.Reveal(ctx, me, "r"))
	case "leaving by alias":
		w.put(t, id, "by alias")
		broken(func() error { _, err := w.Leave(ctx, me, "r"); return err })
	case "left by alias":
		w.put(t, id, "by alias")
		do(w.Leave(ctx, me, "r"))
	case "left by name":
		w.put(t, id, "by name")
		do(w.Leave(ctx, me, "r"))
	case "left both":
		w.put(t, id, "left by alias")
		w.put(t, id, "left by name")
	case "kicked by alias":
		w.put(t, id, "by alias")
		do(w.Kick(ctx, who("alice"), "r", alias(id)))
	case "banned by alias":
		w.put(t, id, "by alias")
		do(w.Ban(ctx, who("alice"), "r", alias(id)))
	case "banned by name":
		do(w.Ban(ctx, who("alice"), "r", me.Node))
	case "by alias, banned by name":
		w.put(t, id, "by alias")
		w.put(t, id, "banned by name")
	case "invited":
		do(w.Invite(ctx, who("alice"), "r", me.Node, session.Ordinary))
	case "invited to read":
		do(w.Invite(ctx, who("alice"), "r", me.Node, session.Reader))
	case "silenced, left":
		w.put(t, id, "by name")
		do(w.SetRole(ctx, who("alice"), "r", me.Node, session.Reader))
		do(w.Leave(ctx, me, "r"))
	case "silenced by alias, left":
		w.put(t, id, "by alias")
		do(w.SetRole(ctx, who("alice"), "r", alias(id), session.Reader))
		do(w.Leave(ctx, me, "r"))
	default:
		t.Fatal(state)
	}
}

// In every state: what joining and leaving by either name and revealing
// oneself make of it, and that each does the same again.
func TestAliasStates(t *testing.T) {
	const (
		nf = envelope.NotFound
		cf = envelope.Conflict
		fb = envelope.Forbidden
	)
	// A want is the name by which the device is in afterwards, "-" for none, or a code.
	named, hidden, out := "bob", "r~bob", "-"
	for _, tt := range []struct {
		state                                    string
		join, joinAs, joinAsOther, leave, reveal any
	}{
		{"none", named, hidden, "r~other", nf, nf},
		{"by name", named, cf, cf, out, named},
		{"by alias", cf, hidden, cf, out, hidden},
		{"joining by alias", cf, hidden, cf, out, hidden},
		{"revealing", cf, hidden, cf, out, hidden},
		{"revealed", cf, hidden, cf, out, hidden},
		{"leaving by alias", named, hidden, cf, out, nf},
		{"left by alias", named, hidden, cf, out, nf},
		{"left by name", named, hidden, "r~other", out, nf},
		{"left both", named, hidden, cf, out, nf},
		{"kicked by alias", named, hidden, cf, out, nf},
		{"banned by alias", nf, nf, nf, out, nf},
		{"banned by name", nf, nf, nf, nf, nf},
		{"by alias, banned by name", cf, hidden, cf, out, hidden},
		{"invited", named, hidden, "r~other", nf, nf},
		{"silenced, left", named, fb, fb, out, nf},
		{"silenced by alias, left", fb, hidden, cf, out, nf},
	} {
		for call, want := range map[string]any{
			"join": tt.join, "join as": tt.joinAs, "join as another": tt.joinAsOther, "leave": tt.leave, "reveal": tt.reveal,
		} {
			t.Run(tt.state+": "+call, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				ctx, bob := t.Context(), who("bob")
				w.group(t)
				w.put(t, "bob", tt.state)
				entries := 0
				for i := range 2 {
					var m session.Member
					var err error
					switch call {
					case "join":
						m, err = w.Join(ctx, bob, "r", session.As{})
					case "join as":
						m, err = w.Join(ctx, bob, "r", as("bob"))
					case "join as another":
						m, err = w.Join(ctx, bob, "r", as("other"))
					case "leave":
						m, err = w.Leave(ctx, bob, "r")
					case "reveal":
						m, err = w.Reveal(ctx, bob, "r")
					}
					if code, refused := want.(envelope.Code); refused {
						if envelope.CodeOf(err) != code {
							t.Fatalf("got %+v, %v", m, err)
						}
						continue
					}
					name, member, err2 := w.name(t, "bob")
					if err != nil || err2 != nil || want != name || member && string(m.Node) != name {
						t.Errorf("time %d: got %+v, %v; is in as %q, %v", i+1, m, err, name, err2)
					}
					if log := w.log(t); i == 0 {
						entries = len(log)
					} else if len(log) != entries {
						t.Errorf("%d entries, before %d", len(log), entries)
					}
				}
			})
		}
	}
}

// name returns the name by which a device is in session r; "-" when it is not.
func (w *world) name(t *testing.T, device envelope.NodeID) (string, bool, error) {
	t.Helper()
	name, _, err := w.NameOf(t.Context(), "r", device)
	if envelope.CodeOf(err) == envelope.NotFound {
		return "-", false, nil
	}
	return string(name), true, err
}

// Into a closed session by an alias comes who is invited, and no one by an
// invitation that somebody has put out since.
func TestAliasInClosedSession(t *testing.T) {
	for _, tt := range []struct {
		state string
		code  envelope.Code
		role  session.Role
	}{
		{"none", envelope.NotFound, 0},
		{"left by alias", envelope.NotFound, 0},
		{"left by name", envelope.NotFound, 0},
		{"kicked by alias", envelope.NotFound, 0},
		{"invited", "", session.Ordinary},
		{"invited to read", "", session.Reader},
	} {
		t.Run(tt.state, func(t *testing.T) {
			w := newWorld(t)
			ctx := t.Context()
			w.group(t)
			w.put(t, "bob", tt.state)
			if _, err := w.Update(ctx, who("alice"), "r", envelope.Settings{AnyoneCanJoin: new(false)}); err != nil {
				t.Fatal(err)
			}
			m, err := w.Join(ctx, who("bob"), "r", as("bob"))
			if envelope.CodeOf(err) != tt.code || m.Role != tt.role {
				t.Fatalf("got %+v, %v", m, err)
			}
			if tt.code != "" {
				return
			}
			if _, err := w.Leave(ctx, who("bob"), "r"); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Join(ctx, who("bob"), "r", anyName); err != nil {
				t.Errorf("after leaving: %v", err)
			}
			if _, err := w.Kick(ctx, who("alice"), "r", alias("bob")); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Join(ctx, who("bob"), "r", anyName); envelope.CodeOf(err) != envelope.NotFound {
				t.Errorf("after a kick: %v", err)
			}
		})
	}
}

// Joining again as what one is keeps working when nobody else may join any more.
func TestAliasJoinedAlready(t *testing.T) {
	for name, change := range map[string]envelope.Settings{
		"closed": {AnyoneCanJoin: new(false)}, "names only": {Anonymous: new(false)},
	} {
		w := newWorld(t)
		w.group(t)
		w.put(t, "bob", "by alias")
		if _, err := w.Update(t.Context(), who("alice"), "r", change); err != nil {
			t.Fatal(err)
		}
		if m, err := w.Join(t.Context(), who("bob"), "r", anyName); err != nil || m.Node != alias("bob") {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
		if _, err := w.Join(t.Context(), who("carol"), "r", anyName); err == nil {
			t.Errorf("%s: another joined", name)
		}
	}
}

func TestAliasNames(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.group(t)
	w.put(t, "bob", "left by alias") // which stays bob's
	long := strings.Repeat("x", envelope.MaxAliasName)
	for i, tt := range []struct {
		name string
		code envelope.Code
	}{
		{"bob", envelope.Conflict},
		{"r~bob", envelope.BadRequest},
		{"a b", envelope.BadRequest},
		{"ü", envelope.BadRequest},
		{long + "x", envelope.BadRequest},
		{long, ""},
		{"Zorro:1.0@x_-", ""},
	} {
		m, err := w.Join(ctx, who(fmt.Sprint("d", i)), "r", as(tt.name))
		if envelope.CodeOf(err) != tt.code || err == nil && m.Node != alias(tt.name) {
			t.Errorf("%q: got %q, %v", tt.name, m.Node, err)
		}
	}
	// One that the server makes tells nothing of who has it, nor of its others.
	seen := map[string]bool{}
	for _, id := range []envelope.SessionID{"s1", "s2", "s3"} {
		if _, err := w.Create(ctx, who("alice"), id, session.Settings{AnyoneCanJoin: true}, session.As{}); err != nil {
			t.Fatal(err)
		}
		m, err := w.Join(ctx, who("carol"), id, anyName)
		in, name, ok := m.Node.Alias()
		if err != nil || !ok || in != id || len(name) < 10 || seen[name] || strings.Contains(name, "carol") {
			t.Errorf("%q, %v", m.Node, err)
		}
		seen[name] = true
		elsewhere := session.New(w.store, w.append, nil)
		if again, err := elsewhere.Join(ctx, who("carol"), id, anyName); err != nil || again.Node != m.Node {
			t.Errorf("at another server %q, %v", again.Node, err)
		}
	}
}

// Whatever the owner or the app does to a device by its id has the same
// outcome, in the same words, whether the device is in by an alias or never was
// there.
func TestHiddenFromActions(t *testing.T) {
	type outcome struct {
		state session.State
		role  session.Role
		spans int
		err   string
	}
	calls := []struct {
		name string
		call func(ctx context.Context, s *session.Sessions, by envelope.Principal, id envelope.NodeID) (session.Member, error)
	}{
		{"kick", func(ctx context.Context, s *session.Sessions, by envelope.Principal, id envelope.NodeID) (session.Member, error) {
			return s.Kick(ctx, by, "r", id)
		}},
		{"ban", func(ctx context.Context, s *session.Sessions, by envelope.Principal, id envelope.NodeID) (session.Member, error) {
			return s.Ban(ctx, by, "r", id)
		}},
		{"unban", func(ctx context.Context, s *session.Sessions, by envelope.Principal, id envelope.NodeID) (session.Member, error) {
			return s.Unban(ctx, by, "r", id)
		}},
		{"silence", func(ctx context.Context, s *session.Sessions, by envelope.Principal, id envelope.NodeID) (session.Member, error) {
			return s.SetRole(ctx, by, "r", id, session.Reader)
		}},
		{"transfer", func(ctx context.Context, s *session.Sessions, by envelope.Principal, id envelope.NodeID) (session.Member, error) {
			return s.Transfer(ctx, by, "r", id)
		}},
		{"invite", func(ctx context.Context, s *session.Sessions, by envelope.Principal, id envelope.NodeID) (session.Member, error) {
			return s.Invite(ctx, by, "r", id, session.Reader)
		}},
		{"write to", func(ctx context.Context, s *session.Sessions, by envelope.Principal, id envelope.NodeID) (session.Member, error) {
			_, err := s.Resolve(ctx, &envelope.Envelope{SrcNode: by.Node, DestSession: "r", DestNode: id})
			return session.Member{}, err
		}},
		{"delete of", func(ctx context.Context, s *session.Sessions, by envelope.Principal, id envelope.NodeID) (session.Member, error) {
			return session.Member{}, s.MayDelete(ctx, by, "r", id)
		}},
	}
	for _, hidden := range []string{"by alias", "left by alias", "joining by alias", "leaving by alias"} {
		for _, by := range []envelope.Principal{who("alice"), app} {
			for first := range calls {
				w := newWorld(t)
				w.group(t)
				w.put(t, "bob", hidden)
				for i := range calls {
					c := calls[(first+i)%len(calls)]
					var got [2]outcome
					for i, id := range []envelope.NodeID{"bob", "nob"} {
						m, err := c.call(t.Context(), w.Sessions, by, id)
						if m.Node != "" && m.Node != id || m.Alias != "" {
							t.Errorf("%s: %+v", id, m)
						}
						got[i] = outcome{m.State, m.Role, len(m.Spans), fmt.Sprint(err)}
					}
					if got[0] != got[1] {
						t.Errorf("%s, %s after others from %s on: of the device %v, of a stranger %v", hidden, c.name, calls[first].name, got[0], got[1])
					}
				}
			}
		}
	}
}

// The app gives an alias to who has none, and hears of no other one by asking.
func TestGivenAlias(t *testing.T) {
	for _, tt := range []struct {
		state string
		as    session.As
		code  envelope.Code
	}{
		{"none", as("zed"), ""},
		{"none", anyName, ""},
		{"left by name", as("zed"), ""},
		{"by name", as("zed"), envelope.Conflict},
		{"by alias", session.As{}, envelope.Conflict},
		{"by alias", anyName, envelope.Conflict},
		{"by alias", as("bob"), envelope.Conflict},
		{"by alias", as("zed"), envelope.Conflict},
		{"left by alias", as("bob"), envelope.Conflict},
		{"left by alias", anyName, envelope.Conflict},
		{"revealed", as("bob"), ""},
		{"banned by name", as("zed"), envelope.Conflict},
	} {
		w := newWorld(t)
		ctx := t.Context()
		w.group(t)
		w.put(t, "bob", tt.state)
		refused := ""
		for range 2 {
			m, err := w.Add(ctx, app, "r", who("bob"), session.Ordinary, tt.as)
			if envelope.CodeOf(err) != tt.code || err == nil && (m.State != session.Joined || m.Device != "bob") {
				t.Errorf("%s, %+v: %+v, %v", tt.state, tt.as, m, err)
			}
			if err != nil {
				refused = err.Error()
			}
		}
		if strings.Contains(tt.state, "by alias") {
			// In the same words whether the guess was right or not.
			_, err := w.Add(ctx, app, "r", who("bob"), session.Ordinary, as("wrong"))
			if err == nil || err.Error() != refused {
				t.Errorf("%s, %+v: %q; of a wrong name %v", tt.state, tt.as, refused, err)
			}
		}
	}
	w := newWorld(t)
	w.group(t)
	w.put(t, "bob", "left by alias")
	if _, err := w.Add(t.Context(), app, "r", envelope.Principal{Node: alias("bob")}, 0, session.As{}); envelope.CodeOf(err) != envelope.BadRequest {
		t.Errorf("by its alias: %v", err)
	}
	if _, err := w.Add(t.Context(), app, "r", who("carol"), 0, as("bob")); envelope.CodeOf(err) != envelope.Conflict {
		t.Errorf("an alias in use: %v", err)
	}
}

// Who looks sees an anonymous member by its alias only, and it itself.
func TestAliasInList(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.group(t)
	w.put(t, "bob", "by alias")
	w.put(t, "carol", "left both")
	w.put(t, "carol", "by name")
	for _, by := range []envelope.Principal{who("alice"), app, who("bob")} {
		_, members, err := w.Get(ctx, by, "r")
		if err != nil || len(members) != 3 {
			t.Fatalf("%s: %+v, %v", by.Node, members, err)
		}
		for _, m := range members {
			told := m.Device != "" || m.Client != "" || m.Alias != ""
			if m.Node == alias("bob") && told != (by.Node == "bob") || m.Node == "carol" && m.Alias != "" {
				t.Errorf("%s is told of %+v", by.Node, m)
			}
		}
	}
	if _, err := w.Reveal(ctx, who("bob"), "r"); err != nil {
		t.Fatal(err)
	}
	_, members, err := w.Get(ctx, who("alice"), "r")
	i := slices.IndexFunc(members, func(m session.Member) bool { return m.Node == alias("bob") })
	if err != nil || i < 0 || members[i].Device != "bob" || members[i].Client != "bob" {
		t.Errorf("revealed: %+v, %v", members, err)
	}
}

// What an anonymous member sends carries its alias and nothing else of it; and
// others write to it by that.
func TestResolveAlias(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.group(t, "carol")
	w.put(t, "bob", "by alias")
	resolve := func(src, to envelope.NodeID) (envelope.Envelope, envelope.Address, envelope.Code) {
		e := envelope.Envelope{SrcNode: src, SrcClient: envelope.ClientID(src), DestSession: "r", DestNode: to}
		addr, err := w.Resolve(ctx, &e)
		return e, addr, envelope.CodeOf(err)
	}
	for _, tt := range []struct {
		src, to envelope.NodeID
		code    envelope.Code
	}{
		{"bob", "", ""},
		{"bob", "carol", ""},
		{"bob", alias("bob"), ""},
		{"carol", alias("bob"), ""},
		{"carol", "bob", envelope.NotFound},
		{"bob", "bob", envelope.NotFound},
		{"carol", alias("none"), envelope.NotFound},
		{"carol", envelope.AliasOf("s", "bob"), envelope.NotFound},
		{"eve", alias("bob"), envelope.NotFound},
		{alias("bob"), "carol", ""}, // which no credential speaks for
	} {
		for range 2 { // read, and remembered
			e, addr, code := resolve(tt.src, tt.to)
			if code != tt.code {
				t.Errorf("%s to %q: %q", tt.src, tt.to, code)
				continue
			}
			want := envelope.SessionID("r").Address()
			if tt.to != "" {
				want = tt.to.Address()
			}
			hidden := tt.src == "bob" && (e.SrcNode != alias("bob") || e.SrcClient != "")
			if code == "" && (addr != want || hidden) {
				t.Errorf("%s to %q: at %v from %s of %q", tt.src, tt.to, addr, e.SrcNode, e.SrcClient)
			}
		}
	}
	if _, err := w.Reveal(ctx, who("bob"), "r"); err != nil {
		t.Fatal(err)
	}
	if e, _, code := resolve("bob", ""); code != "" || e.SrcNode != alias("bob") || e.SrcClient != "bob" {
		t.Errorf("revealed: %+v, %q", e, code)
	}
	if _, _, code := resolve("carol", "bob"); code != envelope.NotFound {
		t.Errorf("to the revealed one by its id: %q", code)
	}
}

// Stays are joined over both names, and none of the log's entries tells whose
// an alias is before it is revealed.
func TestStaysOverBothNames(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	bob := envelope.Principal{Node: "bob-canary", Client: "client-canary"}
	w.group(t) // 1
	step := func(_ session.Member, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	step(w.Join(ctx, bob, "r", as("x")))                                                       // 2
	step(w.SetRole(ctx, who("alice"), "r", alias("x"), session.Reader))                        // 3
	step(w.SetRole(ctx, who("alice"), "r", alias("x"), session.Moderator))                     // 4
	step(w.Transfer(ctx, who("alice"), "r", alias("x")))                                       // 5
	if _, err := w.Update(ctx, bob, "r", envelope.Settings{MemberLimit: new(9)}); err != nil { // 6
		t.Fatal(err)
	}
	step(w.Invite(ctx, bob, "r", "dave", session.Ordinary))
	step(w.Join(ctx, who("carol"), "r", session.As{})) // 7
	step(w.Kick(ctx, bob, "r", "carol"))               // 8
	step(w.Transfer(ctx, bob, "r", "alice"))           // 9
	step(w.Leave(ctx, bob, "r"))                       // 10
	invited, err := w.store.Read(ctx, envelope.NodeID("dave").Address(), 0, 10, 1<<20)
	if err != nil || len(invited) != 1 || invited[0].SrcNode != alias("x") {
		t.Errorf("dave is told %+v, %v", invited, err)
	}
	for _, e := range append(w.log(t), invited...) {
		if bytes.Contains(e.AppendBinary(nil), []byte("canary")) {
			t.Errorf("%+v", e)
		}
	}
	step(w.Join(ctx, bob, "r", session.As{})) // 11
	step(w.Leave(ctx, bob, "r"))              // 12
	step(w.Join(ctx, bob, "r", anyName))      // 13
	want := []session.Span{{From: 2, Until: 10, ByAlias: true}, {From: 11, Until: 12}, {From: 13, ByAlias: true}}
	of, err := w.Of(ctx, bob.Node)
	if err != nil || len(of) != 1 || !slices.Equal(of[0].Spans, want) || of[0].Alias != alias("x") || of[0].Node != alias("x") {
		t.Errorf("of: %+v, %v", of, err)
	}
	m, err := w.Stays(ctx, "r", bob.Node)
	if err != nil || !slices.Equal(m.Spans, want) || m.State != session.Joined {
		t.Errorf("stays: %+v, %v", m, err)
	}
	if ses, err := w.store.Session(ctx, "r"); err != nil || strings.Contains(fmt.Sprintf("%+v", ses), "canary") {
		t.Errorf("%+v, %v", ses, err)
	}
}
