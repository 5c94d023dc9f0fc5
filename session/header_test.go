package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

func (b *breaking) PutHeader(ctx context.Context, h session.Header) error {
	return b.try("header", func() error { return b.Store.PutHeader(ctx, h) })
}

var theApp = envelope.Principal{Node: "app", Client: "app", App: true}

// headerEntries returns what the log says of headers: seq and document.
func (w *world) headerEntries(t *testing.T, id envelope.SessionID) (all []string) {
	t.Helper()
	entries, err := w.store.Read(t.Context(), id.Address(), 0, 10_000, 1<<26)
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		if e := &entries[i]; e.HasType && e.Type == envelope.TypeHeader {
			all = append(all, fmt.Sprint(e.Seq, " ", strings.TrimPrefix(string(e.Body), `"payload":`)))
		}
	}
	return all
}

func said(h session.Header) string { return fmt.Sprint(h.Seq, " ", string(h.Payload)) }

func last(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

func TestHeaderRights(t *testing.T) {
	const ok, fb, nf = "", envelope.Forbidden, envelope.NotFound
	w := newWorld(t)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ids := []string{"alice", "mo", "bob", "rita", "lea", "inga", "eve"}
	for _, kind := range []session.Kind{session.Group, session.Game} {
		id := envelope.SessionID(fmt.Sprint("r", kind))
		must(second(w.Create(ctx, who("alice"), id, session.Settings{AnyoneCanJoin: true, Kind: kind}, session.As{})))
		for _, member := range ids[1:5] {
			must(second(w.Join(ctx, who(member), id, session.As{})))
		}
		must(second(w.SetRole(ctx, who("alice"), id, "mo", session.Moderator)))
		must(second(w.SetRole(ctx, who("alice"), id, "rita", session.Reader)))
		must(second(w.Leave(ctx, who("lea"), id)))
		must(second(w.Invite(ctx, who("alice"), id, "inga", session.Ordinary)))
		ses, err := w.store.Session(ctx, id)
		must(err)
		if kind == session.Game {
			ses.Master = "bob"
			ses.Version++
			must(w.store.UpdateSession(ctx, ses))
		}
		for i, wants := range []struct{ set, get envelope.Code }{{ok, ok}, {ok, ok}, {fb, ok}, {fb, ok}, {nf, nf}, {nf, nf}, {nf, nf}, {ok, ok}} {
			by := theApp
			if i < len(ids) {
				by = who(ids[i])
			}
			if by.Node == ses.Master && kind == session.Game {
				wants.set = ok
			}
			h, err := w.SetHeader(ctx, by, id, fmt.Appendf(nil, `"of %s"`, by.Node))
			if got := envelope.CodeOf(err); got != wants.set || err == nil && h.By != by.Node {
				t.Errorf("%s sets the header of %s: %v, by %q", by.Node, id, err, h.By)
			}
			h, err = w.Header(ctx, by, id)
			if got := envelope.CodeOf(err); got != wants.get || err == nil && said(h) != last(w.headerEntries(t, id)) {
				t.Errorf("%s gets the header of %s: %q, %v", by.Node, id, said(h), err)
			}
			for _, none := range []error{second(w.SetHeader(ctx, who("eve"), "none", []byte("1"))), second(w.Header(ctx, who("eve"), "none"))} {
				if wants.get == nf && envelope.AsError(err).Detail != envelope.AsError(none).Detail {
					t.Errorf("%s: %v; of nothing: %v", by.Node, err, none)
				}
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestHeaderIsSetOnce(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.group(t, "bob")
	if _, err := w.Header(ctx, who("bob"), "r"); envelope.CodeOf(err) != envelope.NotFound {
		t.Errorf("no header: %v", err)
	}
	for _, document := range []string{`{"a":1}`, `{"a":1}`, `null`, `{"a": 1}`} {
		h, err := w.SetHeader(ctx, who("alice"), "r", []byte(document))
		if err != nil || string(h.Payload) != document {
			t.Errorf("%s: %+v, %v", document, h, err)
		}
	}
	if got := fmt.Sprint(w.headerEntries(t, "r")); got != `[3 {"a":1} 4 null 5 {"a": 1}]` {
		t.Errorf("the log has %s", got)
	}
	if _, err := w.SetHeader(ctx, who("alice"), "r", make([]byte, session.MaxHeader+1)); envelope.CodeOf(err) != envelope.TooLarge {
		t.Errorf("too large: %v", err)
	}
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		_, err = w.SetHeader(ctx, who("alice"), "r", fmt.Append(nil, i))
	}
	if e := envelope.AsError(err); e.Code != envelope.RateLimited || e.RetryMS < 1 {
		t.Errorf("a hundred at once: %v", err)
	}
	if _, err := w.SetHeader(ctx, theApp, "r", []byte(`"the app's"`)); err != nil {
		t.Errorf("the app: %v", err)
	}
}

// Headers stand in the log whatever its quota says; so what large ones take there
// is bounded too.
func TestLargeHeaders(t *testing.T) {
	w := newWorld(t)
	w.group(t)
	document := bytes.Repeat([]byte("1"), session.MaxHeader)
	set := 0
	for err := error(nil); err == nil && set < 60; {
		document[0] = byte('1' + set%2)
		if _, err = w.SetHeader(t.Context(), who("alice"), "r", document); err == nil {
			set++
		} else if e := envelope.AsError(err); e.Code != envelope.RateLimited || e.RetryMS < 1 {
			t.Error(err)
		}
	}
	if set < 5 || set > 8 {
		t.Errorf("%d of the largest at once", set)
	}
}

// A change of a header that breaks off at any step is there or not, and
// whoever reads the header reads what the log says.
func TestInterruptedHeader(t *testing.T) {
	for _, step := range []string{"header 1", "after header 1", "append", "after append", "header 2", "after header 2"} {
		for _, by := range []string{"reading", "repeating", "another"} {
			t.Run(step+" "+by, func(t *testing.T) {
				w := newWorld(t)
				ctx := t.Context()
				w.group(t, "bob")
				before, err := w.SetHeader(ctx, who("alice"), "r", []byte("0"))
				if err != nil {
					t.Fatal(err)
				}
				away := false
				op, n := step[:max(0, strings.LastIndex(step, " "))], int(step[len(step)-1]-'0')
				store := &breaking{Store: w.store}
				fault := nth(op, n)
				store.fail = func(called string) error { // from then on the server is dead
					if away = away || fault(called) != nil; away {
						return errAway
					}
					return nil
				}
				broken := session.New(store, func(ctx context.Context, log envelope.Address, env *envelope.Envelope) (uint64, error) {
					if away = away || step == "append"; away {
						return 0, errAway
					}
					seq, err := w.append(ctx, log, env)
					if away = step == "after append"; away {
						return 0, errAway
					}
					return seq, err
				}, nil)
				if _, err := broken.SetHeader(ctx, who("alice"), "r", []byte("1")); err == nil {
					t.Fatal("nothing broke off")
				}
				switch by {
				case "repeating":
					_, err = w.SetHeader(ctx, who("alice"), "r", []byte("1"))
				case "another":
					_, err = w.SetHeader(ctx, theApp, "r", []byte("2"))
				}
				h, err2 := w.Header(ctx, who("bob"), "r")
				if err := errors.Join(err, err2); err != nil {
					t.Fatal(err)
				}
				entries := w.headerEntries(t, "r")
				if said(h) != last(entries) {
					t.Errorf("the header is %q; the log has %q", said(h), entries)
				}
				want := map[string]int{"reading": 2, "repeating": 2, "another": 3}[by]
				if step == "header 1" && by != "repeating" {
					want-- // not even begun
				}
				if len(entries) != want || entries[0] != said(before) {
					t.Errorf("the log has %q, want %d", entries, want)
				}
			})
		}
	}
}

// Two servers set headers at once: each is in the log once, and the one that
// is read is the last there.
func TestHeaderRace(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.group(t)
	servers := []*session.Sessions{w.Sessions, session.New(w.store, w.append, nil)}
	var mu sync.Mutex
	acked := map[string]bool{}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 10 {
				h, err := servers[i%2].SetHeader(ctx, theApp, "r", fmt.Appendf(nil, `"%d of %d"`, n, i))
				if err != nil && !envelope.CodeOf(err).Retry() {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					acked[said(h)] = true
					mu.Unlock()
				}
				if _, err := servers[(i+1)%2].Header(ctx, theApp, "r"); err != nil && !envelope.CodeOf(err).Retry() {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	h, err := w.Header(ctx, theApp, "r")
	entries := w.headerEntries(t, "r")
	if err != nil || said(h) != last(entries) {
		t.Errorf("the header is %q, %v; the log ends with %q", said(h), err, last(entries))
	}
	documents := map[string]bool{}
	for _, e := range entries {
		_, document, _ := strings.Cut(e, " ")
		if documents[document] {
			t.Errorf("twice: %s", document)
		}
		documents[document] = true
		delete(acked, e)
	}
	if len(acked) > 0 {
		t.Errorf("answered, and not in the log: %v", acked)
	}
}

// What late joiners see begins with their joining, or behind the header.
func TestLateJoiners(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.group(t) // 1
	spans := func(id string, want ...session.Span) {
		t.Helper()
		m, err := w.Join(ctx, who(id), "r", session.As{})
		if err != nil || fmt.Sprint(m.Spans) != fmt.Sprint(want) {
			t.Errorf("%s: %v, %v, want %v", id, m.Spans, err, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	late := func(value string) {
		t.Helper()
		must(second(w.Update(ctx, who("alice"), "r", envelope.Settings{LateJoiners: &value})))
	}
	late("header") // 2
	spans("no-header", session.Span{From: 3})
	must(second(w.SetHeader(ctx, who("alice"), "r", []byte("1")))) // 4
	spans("just-behind", session.Span{From: 5, Header: 4})
	spans("bob", session.Span{From: 6, Since: 5, Header: 4})
	must(second(w.Leave(ctx, who("bob"), "r")))                    // 7
	must(second(w.SetHeader(ctx, who("alice"), "r", []byte("2")))) // 8
	must(second(w.SetHeader(ctx, who("alice"), "r", []byte("3")))) // 9
	late("joining")                                                // 10
	spans("carol", session.Span{From: 11, Header: 9})
	late("header") // 12
	spans("bob", session.Span{From: 6, Until: 7, Since: 5, Header: 4}, session.Span{From: 13, Since: 10, Header: 9})
}

// Who joins and leaves is shown to those who joined last.
func TestNotifyLast(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	few := 2
	w.group(t, "b", "c") // 1 2 3
	if _, err := w.Update(ctx, who("alice"), "r", envelope.Settings{NotifyLast: &few}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		do   func(context.Context, envelope.Principal, envelope.SessionID) (session.Member, error)
		id   string
		want uint64
	}{
		{w.join, "d", 2},  // 5: b and c are told
		{w.join, "e", 3},  // 6: c and d
		{w.Leave, "d", 3}, // 7: c and e
		{w.Leave, "b", 3}, // 8: c and e
		{w.Leave, "c", 0}, // 9: all
		{w.join, "b", 0},  // 10
		{w.join, "c", 6},  // 11: e and b
	} {
		if _, err := step.do(ctx, who(step.id), "r"); err != nil {
			t.Fatal(err)
		}
		x, err := w.store.Extent(ctx, envelope.SessionID("r").Address())
		if err != nil {
			t.Fatal(err)
		}
		entries, err := w.store.Read(ctx, envelope.SessionID("r").Address(), x.Head-1, 1, 1)
		if err != nil || len(entries) != 1 || entries[0].ShownFrom != step.want {
			t.Errorf("%s at %d: %+v, %v; want %d", step.id, x.Head, entries, err, step.want)
		}
	}
}

func (w *world) join(ctx context.Context, who envelope.Principal, id envelope.SessionID) (session.Member, error) {
	return w.Join(ctx, who, id, session.As{})
}
