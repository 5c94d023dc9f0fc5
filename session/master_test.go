package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// connected answers that those devices are.
func connected(names ...envelope.NodeID) func(context.Context, []envelope.NodeID) (map[envelope.NodeID]bool, error) {
	return func(_ context.Context, asked []envelope.NodeID) (map[envelope.NodeID]bool, error) {
		here := make(map[envelope.NodeID]bool)
		for _, name := range asked {
			here[name] = slices.Contains(names, name)
		}
		return here, nil
	}
}

// game makes a game with a master and members.
func (w *world) game(t *testing.T, master string, members ...string) {
	t.Helper()
	settings := session.Defaults
	settings.Kind = session.Game
	_, err := w.Create(t.Context(), who(master), "g", settings, session.As{})
	for _, id := range members {
		_, joining := w.Join(t.Context(), who(id), "g", session.As{})
		err = errors.Join(err, joining)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// masterNotes returns what the log says of the master.
func (w *world) masterNotes(t *testing.T) []string {
	t.Helper()
	log, err := w.store.Read(t.Context(), envelope.SessionID("g").Address(), 0, 1000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for i := range log {
		if log[i].Type == envelope.TypeMaster {
			var said struct {
				Payload struct {
					Reason string
					Node   string `json:"node_id"`
				}
			}
			if err := json.Unmarshal([]byte("{"+string(log[i].Body)+"}"), &said); err != nil {
				t.Fatal(err)
			}
			all = append(all, strings.TrimSpace(fmt.Sprint(said.Payload.Reason, " ", said.Payload.Node)))
		}
	}
	return all
}

// Who appoints a master, whom, and what comes of it.
func TestAppoint(t *testing.T) {
	w := newWorld(t)
	w.game(t, "owner", "mona", "ann", "rita", "gone")
	app := envelope.Principal{Node: "the-app", Client: "the-app", App: true}
	_, err := w.SetRole(t.Context(), who("owner"), "g", "mona", session.Moderator)
	_, reading := w.SetRole(t.Context(), who("owner"), "g", "rita", session.Reader)
	_, leaving := w.Leave(t.Context(), who("gone"), "g")
	_, creating := w.Create(t.Context(), who("owner"), "r", session.Defaults, session.As{})
	if err := errors.Join(err, reading, leaving, creating); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		by   envelope.Principal
		in   envelope.SessionID
		node envelope.NodeID
		want envelope.Code
		then envelope.NodeID
	}{
		{who("mona"), "g", "mona", envelope.Forbidden, "owner"},
		{who("ann"), "g", "ann", envelope.Forbidden, "owner"},
		{who("rita"), "g", "ann", envelope.Forbidden, "owner"},
		{who("gone"), "g", "gone", envelope.NotFound, "owner"},
		{who("eve"), "g", "ann", envelope.NotFound, "owner"},
		{who("eve"), "none", "ann", envelope.NotFound, "owner"},
		{who("owner"), "r", "owner", envelope.Conflict, "owner"},
		{who("owner"), "g", "gone", envelope.NotFound, "owner"},
		{who("owner"), "g", "eve", envelope.NotFound, "owner"},
		{who("owner"), "g", "x~y", envelope.BadRequest, "owner"},
		{who("owner"), "g", "ann", "", "ann"},
		{who("owner"), "g", "ann", "", "ann"}, // again
		{who("ann"), "g", "mona", "", "mona"},
		{who("ann"), "g", "mona", "", "mona"}, // again, though it is not its to decide any more
		{who("ann"), "g", "ann", envelope.Forbidden, "mona"},
		{app, "g", "rita", "", "rita"},
		{who("owner"), "g", "owner", "", "owner"},
	} {
		m, err := w.Appoint(t.Context(), step.by, step.in, step.node)
		if role := m.Role; err == nil && (role == session.Owner) != (step.node == "owner") {
			t.Errorf("%s is master, and its role %v", step.node, role)
		}
		if got := envelope.CodeOf(err); got != step.want {
			t.Errorf("%s makes %s the master of %s: %q, want %q", step.by.Node, step.node, step.in, got, step.want)
		}
		if got, err := w.Master(t.Context(), "g"); err != nil || got != step.then {
			t.Errorf("then the master is %q, %v; want %q", got, err, step.then)
		}
	}
	want := []string{"transferred ann", "transferred mona", "transferred rita", "transferred owner"}
	if got := w.masterNotes(t); !slices.Equal(got, want) {
		t.Errorf("the log says %q, want %q", got, want)
	}
}

// Where messages to a game go.
func TestGameAddresses(t *testing.T) {
	w := newWorld(t)
	w.game(t, "master", "ann", "bob", "rita")
	if _, err := w.SetRole(t.Context(), who("master"), "g", "rita", session.Reader); err != nil {
		t.Fatal(err)
	}
	group, master, ann := envelope.SessionID("g").Address(), envelope.NodeID("master").Address(), envelope.NodeID("ann").Address()
	none := envelope.Address{}
	check := func(from, to envelope.NodeID, class envelope.Class, want envelope.Address, code envelope.Code, forMaster bool) {
		t.Helper()
		env := envelope.Envelope{SrcNode: from, DestSession: "g", DestNode: to, Class: class}
		got, err := w.Resolve(t.Context(), &env)
		if got != want || envelope.CodeOf(err) != code || err == nil && want == group && env.ForMaster != forMaster {
			t.Errorf("%s to %q, %v: %v, for the master %v, %v; want %v, %v, %q", from, to, class, got, env.ForMaster, err, want, forMaster, code)
		}
	}
	for _, class := range []envelope.Class{envelope.Durable, envelope.Volatile, envelope.Latest} {
		through := group
		if class != envelope.Durable {
			through = master
		}
		check("master", "", class, group, "", false)
		check("ann", "", class, through, "", true)
		check("rita", "", class, none, envelope.Forbidden, false)
		check("master", "ann", class, ann, "", false)
		check("ann", "master", class, master, "", false)
		check("ann", "bob", class, none, envelope.Forbidden, false)
		check("rita", "master", class, none, envelope.Forbidden, false)
		check("eve", "", class, none, envelope.NotFound, false)
	}
	// Even a reader speaks as the master.
	if _, err := w.Appoint(t.Context(), who("master"), "g", "rita"); err != nil {
		t.Fatal(err)
	}
	check("rita", "", envelope.Durable, group, "", false)
	check("rita", "ann", envelope.Volatile, ann, "", false)
	check("master", "", envelope.Durable, group, "", true)
	// Nothing for who has left, though the row still calls it the master.
	if _, err := w.Leave(t.Context(), who("rita"), "g"); err != nil {
		t.Fatal(err)
	}
	check("ann", "", envelope.Volatile, none, "", true)
	check("ann", "", envelope.Durable, group, "", true)
	check("rita", "", envelope.Durable, none, envelope.NotFound, false)
}

// A hand-over that broke off is completed by whoever looks next, and is what it
// was begun as.
func TestInterruptedHandover(t *testing.T) {
	for reason, begin := range map[string]func(*testing.T, *world) error{
		"transferred ann": func(t *testing.T, w *world) error {
			_, err := w.Appoint(t.Context(), who("master"), "g", "ann")
			return err
		},
		"lost ann": func(t *testing.T, w *world) error {
			_, err := w.Succeed(t.Context(), "g", 2, connected("ann"))
			return err
		},
		"left ann": func(t *testing.T, w *world) error {
			_, err := w.Succeed(t.Context(), "g", 0, connected("ann"))
			return err
		},
	} {
		t.Run(reason, func(t *testing.T) {
			w := newWorld(t)
			w.game(t, "owner", "master", "ann", "bob")
			if _, err := w.Appoint(t.Context(), who("owner"), "g", "master"); err != nil { // term 2
				t.Fatal(err)
			}
			if reason == "left ann" {
				if _, err := w.Leave(t.Context(), who("master"), "g"); err != nil {
					t.Fatal(err)
				}
			}
			w.mu.Lock()
			w.err = envelope.BusyError(100, "away", nil)
			w.mu.Unlock()
			if err := begin(t, w); envelope.CodeOf(err) != envelope.Busy {
				t.Fatal(err)
			}
			w.mu.Lock()
			w.err = nil
			w.mu.Unlock()
			elsewhere := session.New(w.store, w.append, nil)
			if got, err := elsewhere.Master(t.Context(), "g"); err != nil || got != "ann" {
				t.Errorf("the master is %q, %v", got, err)
			}
			if err := begin(t, w); envelope.CodeOf(err) == envelope.Busy {
				t.Error(err)
			}
			if got := w.masterNotes(t); !slices.Equal(got, []string{"transferred master", reason}) {
				t.Errorf("the log says %q", got)
			}
		})
	}
}

// Who is lost stays the master while it is connected after all, while nobody else
// is, and once somebody has followed it; of many who look, one makes the change.
func TestLostMaster(t *testing.T) {
	w := newWorld(t)
	w.game(t, "master", "ann", "bob")
	succeed := func(term uint64, here ...envelope.NodeID) session.Session {
		t.Helper()
		ses, err := w.Succeed(t.Context(), "g", term, connected(here...))
		if err != nil {
			t.Fatal(err)
		}
		return ses
	}
	for _, unchanged := range []session.Session{succeed(0, "ann"), succeed(7, "ann"), succeed(1, "master", "ann"), succeed(1)} {
		if unchanged.Master != "master" || unchanged.MasterTerm != 1 {
			t.Errorf("the master is %q of term %d", unchanged.Master, unchanged.MasterTerm)
		}
	}
	servers := []*session.Sessions{w.Sessions, session.New(w.store, w.append, nil), session.New(w.store, w.append, nil)}
	var all sync.WaitGroup
	for i := range 9 {
		all.Go(func() {
			ses, err := servers[i%3].Succeed(t.Context(), "g", 1, connected("bob", "ann"))
			if err != nil || ses.Master != "ann" || ses.MasterTerm != 2 {
				t.Errorf("the master is %q of term %d, %v", ses.Master, ses.MasterTerm, err)
			}
		})
	}
	all.Wait()
	if got := w.masterNotes(t); !slices.Equal(got, []string{"lost ann"}) {
		t.Errorf("the log says %q", got)
	}
	refused := errors.New("nobody knows")
	_, err := w.Succeed(t.Context(), "g", 2, func(context.Context, []envelope.NodeID) (map[envelope.NodeID]bool, error) { return nil, refused })
	if !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
}

// An alias is a master like any name, and whose it is is told nobody.
func TestMasterByAlias(t *testing.T) {
	w := newWorld(t)
	w.game(t, "owner", "ann")
	if _, err := w.Join(t.Context(), who("canary"), "g", session.As{Anonymous: true, Name: "zorro"}); err != nil {
		t.Fatal(err)
	}
	zorro := envelope.AliasOf("g", "zorro")
	if _, err := w.Appoint(t.Context(), who("owner"), "g", "canary"); envelope.CodeOf(err) != envelope.NotFound {
		t.Errorf("by the hidden name: %v", err)
	}
	if _, err := w.Appoint(t.Context(), who("owner"), "g", zorro); err != nil {
		t.Fatal(err)
	}
	for device, want := range map[envelope.NodeID]bool{"canary": true, "owner": false, "ann": false, "eve": false} {
		if got, err := w.IsMaster(t.Context(), "g", device); err != nil || got != want {
			t.Errorf("%s is the master: %v, %v", device, got, err)
		}
	}
	env := envelope.Envelope{SrcNode: "ann", DestSession: "g", Class: envelope.Volatile}
	if addr, err := w.Resolve(t.Context(), &env); err != nil || addr != zorro.Address() {
		t.Errorf("to %v, %v", addr, err)
	}
	env = envelope.Envelope{SrcNode: "canary", SrcClient: "canary", DestSession: "g"}
	if addr, err := w.Resolve(t.Context(), &env); err != nil || addr.ID != "g" || env.SrcNode != zorro || env.SrcClient != "" || env.ForMaster {
		t.Errorf("to %v of %q, %v", addr, env.SrcNode, err)
	}
	if _, err := w.Appoint(t.Context(), who("canary"), "g", "ann"); err != nil {
		t.Error(err)
	}
	log, err := w.store.Read(t.Context(), envelope.SessionID("g").Address(), 0, 100, 1<<20)
	for i := range log {
		if text := fmt.Sprintf("%+v %s", log[i], log[i].Body); strings.Contains(text, "canary") {
			t.Errorf("the log names who is hidden: %s", text)
		}
	}
	if got := w.masterNotes(t); err != nil || !slices.Equal(got, []string{"transferred g~zorro", "transferred ann"}) {
		t.Errorf("the log says %q, %v", got, err)
	}
}

// A game may be made for a master who is yet to join: nobody else is it till then.
func TestMasterToCome(t *testing.T) {
	w := newWorld(t)
	settings := session.Defaults
	if _, err := w.CreateFor(t.Context(), who("owner"), "g", settings, session.As{}, "bob", false); envelope.CodeOf(err) != envelope.BadRequest {
		t.Errorf("the master of a group: %v", err)
	}
	settings.Kind = session.Game
	for _, refused := range []struct {
		master envelope.NodeID
		empty  bool
		want   envelope.Code
	}{{"a b", false, envelope.BadRequest}, {"g~zorro", false, envelope.BadRequest}, {"bob", true, envelope.Forbidden}} {
		_, err := w.CreateFor(t.Context(), who("owner"), "g", settings, session.As{}, refused.master, refused.empty)
		if envelope.CodeOf(err) != refused.want {
			t.Errorf("for %q, empty %v: %v", refused.master, refused.empty, err)
		}
	}
	for range 2 { // once more is the same
		made, err := w.CreateFor(t.Context(), who("owner"), "g", settings, session.As{}, "bob", false)
		if err != nil || made.Master != "bob" || made.MasterTerm != 0 {
			t.Fatalf("made %+v, %v", made, err)
		}
	}
	if ses, err := w.Succeed(t.Context(), "g", 0, connected("owner")); err != nil || ses.Master != "bob" || ses.MasterTerm != 0 {
		t.Errorf("before it has come: %+v, %v", ses, err)
	}
	env := envelope.Envelope{SrcNode: "owner", DestSession: "g", Class: envelope.Volatile}
	if addr, err := w.Resolve(t.Context(), &env); err != nil || !addr.IsZero() {
		t.Errorf("to %v, %v", addr, err)
	}
	if _, err := w.Join(t.Context(), who("bob"), "g", session.As{}); err != nil {
		t.Fatal(err)
	}
	if ses, err := w.Succeed(t.Context(), "g", 0, connected("owner")); err != nil || ses.Master != "bob" || ses.MasterTerm != 1 {
		t.Errorf("when it has come: %+v, %v", ses, err)
	}
	if ses, err := w.Succeed(t.Context(), "g", 1, connected("owner")); err != nil || ses.Master != "owner" {
		t.Errorf("when it is lost: %+v, %v", ses, err)
	}
	own, err := w.CreateFor(t.Context(), who("ann"), "own", settings, session.As{Anonymous: true, Name: "x"}, "ann", false)
	if err != nil || own.Master != "own~x" {
		t.Errorf("its own, by an alias: %+v, %v", own, err)
	}
}
