package native

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// noteCore notes what it is asked and answers with a session of two members.
type noteCore struct {
	gateway.Core
	asked []string
}

func (c *noteCore) Refused(envelope.Code) {}

func (c *noteCore) Do(_ context.Context, who envelope.Principal, cmd gateway.Command) (gateway.Event, error) {
	c.asked = append(c.asked, fmt.Sprintf("%s: %s", who.Node, describeCall(cmd)))
	info := gateway.SessionInfo{
		ID: "r", Owner: "alice", Settings: envelope.Settings{AnyoneCanJoin: new(true)}, Created: time.UnixMilli(1_500_000_000_250),
		Members: []gateway.MemberInfo{{Node: "alice", Client: "al"}, {Node: "bob", Client: "bo"}},
	}
	name := who.Node
	if name == "ann" { // who is everywhere by the same alias
		name = "r~zorro"
		info.Members = append(info.Members, gateway.MemberInfo{Node: name})
	}
	if !who.App {
		info.Own = gateway.MemberInfo{Node: name, State: "joined"}
	}
	switch cmd := cmd.(type) {
	case gateway.CreateSession:
		info.ID = cmp.Or(cmd.ID, info.ID)
	case gateway.GetSession:
		if info.ID = cmd.ID; info.ID == "g" {
			info.Settings.Kind, info.Master = new("game"), "g~zorro"
		}
	case gateway.JoinSession:
		if cmd.ID != "r" {
			return nil, envelope.Errorf(envelope.NotFound, "no such session, or not yours to see")
		}
		if cmd.As.Anonymous {
			name = envelope.AliasOf(cmd.ID, cmp.Or(cmd.As.Name, "random"))
		}
		return gateway.Membership{ID: cmd.ID, Node: name, Seq: 7}, nil
	case gateway.ChangeMember:
		state := "joined"
		if cmd.Action == gateway.Invite {
			state = "invited"
		}
		if cmd.As.Anonymous {
			cmd.Node = envelope.AliasOf(cmd.ID, cmp.Or(cmd.As.Name, "random"))
		}
		return gateway.MemberInfo{Node: cmd.Node, State: state}, nil
	case gateway.RevealAnonymity:
		return gateway.MemberInfo{Node: name, State: "joined"}, nil
	case gateway.LeaveSession:
		return gateway.Membership{ID: cmd.ID, Node: name, Seq: 7}, nil
	}
	return info, nil
}

func describeCall(cmd gateway.Command) string {
	switch cmd := cmd.(type) {
	case gateway.CreateSession:
		last := 0
		if cmd.Settings.NotifyLast != nil {
			last = *cmd.Settings.NotifyLast
		}
		text := fmt.Sprintf("create id=%s anyone=%v empty=%v last=%d%s", cmd.ID, *cmd.Settings.AnyoneCanJoin, cmd.Empty, last, describeAlias(cmd.As))
		if kind := cmd.Settings.Kind; kind != nil {
			text += fmt.Sprintf(" %s of %q", *kind, cmd.Master)
		}
		return text
	case gateway.JoinSession:
		return fmt.Sprintf("join id=%s%s", cmd.ID, describeAlias(cmd.As))
	case gateway.LeaveSession:
		return fmt.Sprintf("leave id=%s", cmd.ID)
	case gateway.GetSession:
		return fmt.Sprintf("get id=%s all=%v", cmd.ID, cmd.All)
	case gateway.RevealAnonymity:
		return fmt.Sprintf("reveal id=%s", cmd.ID)
	case gateway.ChangeMember:
		action := map[gateway.MemberAction]string{gateway.Invite: "invite", gateway.Add: "add", gateway.Appoint: "appoint"}[cmd.Action]
		return fmt.Sprintf("%s id=%s node=%s client=%s role=%s%s", action, cmd.ID, cmd.Node, cmd.Client, cmd.Role, describeAlias(cmd.As))
	}
	return fmt.Sprintf("%T", cmd)
}

func describeAlias(as gateway.Alias) string {
	if !as.Anonymous {
		return ""
	}
	return " as ~" + as.Name
}

// TestLegacyCalls reads testdata/calls/legacy.txtar. In "calls" each line is a call:
// the method, whose auth key, and the path with its parameters, which a POST
// has in its body. "commands" is what the core is asked, or "-", and "out" the
// status and the body of the answer.
func TestLegacyCalls(t *testing.T) {
	const file = "testdata/calls/legacy.txtar"
	a, err := txtar.ParseFile(file)
	if err != nil || len(a.Files) != 3 {
		t.Fatal(a, err)
	}
	secret := auth.Secret("a token secret for tests, long enough")
	verifier, err := auth.NewVerifier(t.Context(), auth.Config{Keys: []auth.KeySource{{Secret: secret}}})
	if err != nil {
		t.Fatal(err)
	}
	defer verifier.Close()
	core := &noteCore{}
	mux := http.NewServeMux()
	(&Handler{Core: core, Verifier: verifier, MaxFrame: 1 << 10, Log: slog.New(slog.DiscardHandler)}).Register(mux)

	var commands, out strings.Builder
	for line := range strings.Lines(string(a.Files[0].Data)) {
		method, line, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		who, target, _ := strings.Cut(line, " ")
		path, query, _ := strings.Cut(target, "?")
		form, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		key, err := auth.Mint(auth.MintKey{Secret: secret}, auth.Claims{
			Client: "c", Node: envelope.NodeID(who), App: who == "app", Issued: time.Now(), Expires: time.Now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		if who != "nobody" {
			form.Set("auth_key", key)
		}
		req := httptest.NewRequestWithContext(t.Context(), method, path+"?"+form.Encode(), nil)
		if method == http.MethodPost {
			req = httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(form.Encode()))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		core.asked = nil
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, req)
		body, _ := io.ReadAll(rec.Body)
		if len(core.asked) == 0 {
			core.asked = []string{"-"}
		}
		fmt.Fprintln(&commands, strings.Join(core.asked, ", "))
		fmt.Fprintln(&out, rec.Code, rec.Header().Get("Content-Type"), strings.TrimSuffix(string(body), "\n"))
	}
	for i, got := range []string{commands.String(), out.String()} {
		part := &a.Files[i+1]
		if *update {
			part.Data = []byte(got)
		} else if got != string(part.Data) {
			t.Errorf("%s: got\n%s\nin place of\n%s", part.Name, got, part.Data)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// HEAD changes nothing.
func TestLegacyCallsHead(t *testing.T) {
	core := &noteCore{}
	mux := http.NewServeMux()
	(&Handler{Core: core, Log: slog.New(slog.DiscardHandler)}).Register(mux)
	for _, path := range []string{"/create_session", "/join_session", "/unjoin_session", "/get_session_info", "/reveal_anonymity"} {
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodHead, path, nil))
		if rec.Code != http.StatusMethodNotAllowed || len(core.asked) != 0 {
			t.Errorf("%s: %d, asked %v", path, rec.Code, core.asked)
		}
	}
}

// countedBody counts what is read of a body.
type countedBody struct {
	io.Reader
	n int
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.n += n
	return n, err
}

// How much of a body is read depends on who sends it, and a key in the body counts
// more than one in the query.
func TestLegacyBodies(t *testing.T) {
	const maxFrame, large = 1 << 20, 200 << 10
	secret := auth.Secret("a token secret for tests, long enough")
	verifier, err := auth.NewVerifier(t.Context(), auth.Config{Keys: []auth.KeySource{{Secret: secret}}})
	if err != nil {
		t.Fatal(err)
	}
	defer verifier.Close()
	good, err := auth.Mint(auth.MintKey{Secret: secret}, auth.Claims{
		Client: "c", Node: "bob", Issued: time.Now(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	core := &noteCore{}
	mux := http.NewServeMux()
	(&Handler{Core: core, Verifier: verifier, MaxFrame: maxFrame, Log: slog.New(slog.DiscardHandler)}).Register(mux)
	for name, tt := range map[string]struct {
		query, body string // the auth keys
		size        int    // of what else is in the body
		status      int
		read        int // at most
	}{
		"small form":            {"", good, 100, 200, 1000},
		"query":                 {good, "", 0, 200, 1000},
		"query, large":          {good, "", large, 200, large + 1000},
		"query, too large":      {good, "", maxFrame, 413, maxFrame + 1000},
		"bad in the query":      {"x", good, large, 401, 0},
		"large form":            {"", good, large, 413, gateway.MaxCallBody + 1000},
		"large without":         {"", "", large, 413, gateway.MaxCallBody + 1000},
		"small without":         {"", "", 100, 401, 1000},
		"bad in the form":       {"", "x", 100, 401, 1000},
		"the one in the form":   {good, "x", 100, 401, 1000},
		"the same in both":      {good, good, large, 200, large + 1000},
		"none in the form, bad": {"x", "", 100, 401, 0},
	} {
		t.Run(name, func(t *testing.T) {
			form := "session_id=r&x=" + strings.Repeat("x", tt.size)
			if tt.body != "" {
				form += "&auth_key=" + tt.body
			}
			target := "/get_session_info"
			if tt.query != "" {
				target += "?auth_key=" + tt.query
			}
			body := &countedBody{Reader: strings.NewReader(form)}
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, target, body)
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			core.asked = nil
			rec := httptest.NewRecorder()
			mux.ServeHTTP(rec, req)
			if rec.Code != tt.status || body.n > tt.read || (len(core.asked) == 1) != (tt.status == 200) {
				t.Errorf("%d %s, read %d bytes, asked %v", rec.Code, rec.Body, body.n, core.asked)
			}
		})
	}
}
