package node

import (
	"slices"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/push"
)

// A device whose credential was revoked hears nothing by its push service
// either, until it registers its token with another one.
func TestPushRevoked(t *testing.T) {
	for name, what := range map[string]gateway.Revoke{
		"user":   {Client: "bob"},
		"device": {Node: "phone"},
	} {
		t.Run(name, func(t *testing.T) {
			inPushMesh(t, 1, func(t *testing.T, m *mesh, s *service) {
				alice := m.api("alice", "alice", "a")
				woken := func(id string) (tokens []string) {
					if _, err := alice.SendHTTP(t.Context(), to(user("bob"), id, "hi")); err != nil {
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
				left, err := m.at("a").cfg.Push.Store.TokensOfClient(t.Context(), "carol")
				if err != nil || len(left) != 1 || left[0].Service != push.FCM {
					t.Errorf("of somebody else there is %v, %v", left, err)
				}
			})
		})
	}
}
