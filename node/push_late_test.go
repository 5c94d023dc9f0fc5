package node

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/push"
)

// Who leaves a conversation is woken by what is said next, also at the moment
// when its log is looked at for what was said before.
func TestPushLeaving(t *testing.T) {
	inPushMesh(t, 1, func(t *testing.T, m *mesh, s *service) {
		m.registers("bob", "phone", "a")
		alice := m.client("alice", "a").connected(m)
		for i := range 10 {
			bob := m.device("bob", "phone", "a").connected(m)
			alice.send(to(user("bob"), fmt.Sprint(i, "one"), "one"))
			pass(pushAfter - 200*time.Millisecond)
			alice.send(to(user("bob"), fmt.Sprint(i, "two"), "two"))
			pass(pushTick + 300*time.Millisecond)
			bob.close()
			alice.send(to(user("bob"), fmt.Sprint(i, "away"), "away"))
			pass(5 * time.Minute)
			if got := s.take(); len(got) != 1 {
				t.Errorf("round %d: %d pushes, want 1", i, len(got))
			}
			pass(time.Duration(i) * 110 * time.Millisecond)
		}
	})
}

// slowPushStore is a store that does not answer while it is away.
type slowPushStore struct {
	push.Store
	away atomic.Bool
}

func (s *slowPushStore) wait(ctx context.Context) error {
	if !s.away.Load() {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s *slowPushStore) Touch(ctx context.Context, keys []push.JobKey, due int64) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.Store.Touch(ctx, keys, due)
}

func (s *slowPushStore) TokensOf(ctx context.Context, nodes []envelope.NodeID) ([]push.Token, error) {
	if s.away.Load() {
		return nil, errAway
	}
	return s.Store.TokensOf(ctx, nodes)
}

func (s *slowPushStore) TokensOfClient(ctx context.Context, client envelope.ClientID) ([]push.Token, error) {
	if s.away.Load() {
		return nil, errAway
	}
	return s.Store.TokensOfClient(ctx, client)
}

// A store that notes nothing holds the senders up once and not with each
// message, and whom they write to is woken when it is back.
func TestPushStoreAway(t *testing.T) {
	s := new(service)
	var slow *slowPushStore
	inMeshOf(t, 1, func(cfg *Config) {
		slow = &slowPushStore{Store: cfg.Inbox.(push.Store)}
		cfg.Push = Push{Store: slow, Senders: map[push.Service]push.Sender{push.FCM: s}}
	}, func(t *testing.T, m *mesh) {
		alice := m.api("alice", "alice", "a")
		users := []string{"bob", "carol", "dave", "erin"}
		for _, u := range users {
			m.registers(u, u+"-phone", "a")
		}
		slow.away.Store(true)
		began := time.Now()
		for i, u := range users {
			addr := user(u)
			if i%2 == 1 {
				addr = deviceAddr(u + "-phone")
			}
			if _, err := alice.SendHTTP(t.Context(), to(addr, u, "hi")); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > pushWithin+time.Second {
			t.Errorf("%d messages took %v", len(users), took)
		}
		pass(time.Minute)
		slow.away.Store(false)
		pass(time.Minute)
		var woken []string
		for _, p := range s.take() {
			woken = append(woken, string(p.to.Client))
		}
		slices.Sort(woken)
		if !slices.Equal(woken, users) {
			t.Errorf("woken: %q", woken)
		}
	})
}

// A token that was registered by a clock that is ahead is not left to the other
// device as if it had moved.
func TestPushTokenOfAClockAhead(t *testing.T) {
	inPushMesh(t, 1, func(t *testing.T, m *mesh, s *service) {
		m.registers("ann", "tablet", "a")
		of, err := m.at("a").waker.store.TokensOf(t.Context(), []envelope.NodeID{"tablet"})
		if err != nil || len(of) != 1 {
			t.Fatal(of, err)
		}
		of[0].Registered = time.Now().Add(10 * time.Second).UnixMilli()
		if err := m.at("a").waker.store.PutToken(t.Context(), of[0]); err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprintf(`{"service":"fcm","token":%q}`, of[0].Value)
		if status, answer := m.call("bob", "phone", "a", http.MethodPut, "/v1/push/token", body); status != http.StatusServiceUnavailable {
			t.Errorf("answered %d %s", status, answer)
		}
		pass(11 * time.Second)
		if err := m.api("bob", "phone", "a").PutPushToken(t.Context(), client.PushToken{Service: "fcm", Token: of[0].Value}); err != nil {
			t.Error(err)
		}
		of, err = m.at("a").waker.store.TokensOf(t.Context(), []envelope.NodeID{"tablet", "phone"})
		if err != nil || len(of) != 1 || of[0].Node != "phone" {
			t.Errorf("the token is %v's, %v", of, err)
		}
	})
}
