package node

import (
	"slices"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/push"
)

// A device whose credential was revoked hears nothing by its push service
// either, until it registers its token with another one.
func TestPushRevoked(t *testing.T) {
	for name, what := range map[string]gateway.Revoke{
		"user":   {Client: "bob"},
		"device": {Node: "phone"},
		"all":    {},
	} {
		t.Run(name, func(t *testing.T) {
			inPushMesh(t, 1, func(t *testing.T, m *mesh, s *service) {
				woken := func(id string) (tokens []string) {
					pass(2 * time.Second) // a key's time is whole seconds
					if _, err := m.api("alice", "alice", "a").SendHTTP(t.Context(), to(user("bob"), id, "hi")); err != nil {
						t.Fatal(err)
					}
					pass(5 * time.Minute)
					for _, p := range s.take() {
						tokens = append(tokens, p.to.Value)
					}
					slices.Sort(tokens)
					return tokens
				}
				m.registers("bob", "phone", "a")
				m.registers("carol", "desk", "a")
				if got := woken("1"); !slices.Equal(got, []string{tokenOf("phone")}) {
					t.Fatalf("woken: %q", got)
				}
				m.revoke("a", what)
				if got := woken("2"); len(got) != 0 {
					t.Errorf("woken after the revocation: %q", got)
				}
				m.registers("bob", "phone", "a")
				if got := woken("3"); !slices.Equal(got, []string{tokenOf("phone")}) {
					t.Errorf("woken after it has registered anew: %q", got)
				}
				if what == (gateway.Revoke{}) {
					return // of everybody
				}
				left, err := m.at("a").cfg.Push.Store.TokensOfClient(t.Context(), "carol")
				if err != nil || len(left) != 1 || left[0].Service != push.FCM {
					t.Errorf("of somebody else there is %v, %v", left, err)
				}
			})
		})
	}
}

// A token that a revocation has missed, because it was registered at a server
// that had not heard of it, is not used and goes when it would have been.
func TestPushRevokedLate(t *testing.T) {
	for name, test := range map[string]struct {
		by      push.Token
		revoked gateway.Revoke
	}{
		"name":     {push.Token{JTI: "key", Issued: 1 << 50}, gateway.Revoke{JTI: "key"}},
		"time":     {push.Token{JTI: "key", Issued: 1}, gateway.Revoke{}},
		"no time":  {push.Token{}, gateway.Revoke{}},
		"the user": {push.Token{JTI: "key", Issued: 1}, gateway.Revoke{Client: "bob"}},
	} {
		t.Run(name, func(t *testing.T) {
			inPushMesh(t, 2, func(t *testing.T, m *mesh, s *service) {
				m.revoke("a", test.revoked)
				pass(2 * time.Second)
				late := test.by
				late.Service, late.Value, late.Node, late.Client, late.Registered = push.FCM, tokenOf("late"), "phone", "bob", time.Now().UnixMilli()
				if err := m.store.PutToken(t.Context(), late); err != nil {
					t.Fatal(err)
				}
				if _, err := m.api("alice", "alice", "b").SendHTTP(t.Context(), to(user("bob"), "1", "hi")); err != nil {
					t.Fatal(err)
				}
				pass(time.Minute)
				if got := s.take(); len(got) != 0 {
					t.Errorf("woken: %+v", got)
				}
				if left, err := m.store.TokensOf(t.Context(), []envelope.NodeID{"phone"}); err != nil || len(left) != 0 {
					t.Errorf("left: %v, %v", left, err)
				}
			})
		})
	}
}

// With its name, a revoked key takes the tokens registered with it along, and
// no others.
func TestPushRevokedKey(t *testing.T) {
	inPushMesh(t, 1, func(t *testing.T, m *mesh, _ *service) {
		put := func(node envelope.NodeID, by gateway.Credential) {
			t.Helper()
			who := envelope.Principal{Node: node, Client: "bob"}
			if _, err := m.at("a").Do(t.Context(), who, gateway.PutPushToken{Service: "fcm", Value: tokenOf(string(node)), By: by}); err != nil {
				t.Fatal(err)
			}
		}
		put("one", gateway.Credential{JTI: "key", Issued: time.Now()})
		put("two", gateway.Credential{JTI: "other", Issued: time.Now()})
		if _, err := m.at("a").Do(t.Context(), envelope.Principal{Node: "old", Client: "bob"}, gateway.FetchPending{
			ClockOnly: true, PushToken: tokenOf("old"), By: gateway.Credential{JTI: "key"},
		}); err != nil {
			t.Fatal(err)
		}
		m.revoke("a", gateway.Revoke{JTI: "key"})
		left, err := m.store.TokensOfClient(t.Context(), "bob")
		if err != nil || len(left) != 1 || left[0].Node != "two" {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}
