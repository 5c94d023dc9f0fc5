package fcm

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/internal/pushtest"
	"github.com/allsparkrt/allspark/push"
)

func TestAccessTokenIsRenewedEarly(t *testing.T) {
	service := pushtest.NewFCM(t)
	tokens := newSender(t, service).tokens
	get := func() string {
		t.Helper()
		access, f := tokens.token(t.Context())
		if f != nil {
			t.Fatal(f)
		}
		return access
	}
	first := get()
	if again := get(); again != first {
		t.Error("not kept")
	}

	// It is time: one caller asks, and the others go on with what there is.
	tokens.current.renew = time.Now()
	arrived, release := service.Grants.Hold()
	renewed := make(chan string)
	go func() {
		access, _ := tokens.token(t.Context())
		renewed <- access
	}()
	<-arrived
	if while := get(); while != first {
		t.Error("another one renewed as well")
	}
	release()
	second := <-renewed
	if second == first || get() != second {
		t.Error("not renewed")
	}
	if tokens.forget(first); get() != second {
		t.Error("the new one was dropped for the old one's sake")
	}

	// A renewal that fails costs nothing while the token lives, and is not
	// repeated for a while.
	tokens.current.renew = time.Now()
	service.Grants.Then(pushtest.Answer{Status: 503})
	for range 2 {
		if get() != second {
			t.Error("a token that lives was dropped")
		}
	}
	if n := len(service.Grants.Requests()); n != 3 {
		t.Errorf("%d requests for a token", n)
	}
}

func TestNoAccessToken(t *testing.T) {
	later := http.Header{"Retry-After": {"90"}}
	tests := []struct {
		name   string
		answer pushtest.Answer
		want   push.Failure
	}{
		{"refused", pushtest.Answer{Status: 400, Body: `{"error":"invalid_grant","error_description":"Invalid JWT Signature."}`}, push.Failure{Reason: "invalid_grant", Retry: true}},
		{"down", pushtest.Answer{Status: 503, Header: later}, push.Failure{Reason: "HTTP 503", Retry: true, After: 90 * time.Second}},
		{"broken off", pushtest.Answer{Drop: true}, push.Failure{Reason: "unreachable", Retry: true}},
		{"nothing in it", pushtest.Answer{Status: 200, Body: `{}`}, push.Failure{Reason: "unreachable", Retry: true}},
		{"never valid", pushtest.Answer{Status: 200, Body: `{"access_token":"ya29.x","expires_in":0}`}, push.Failure{Reason: "unreachable", Retry: true}},
		{"not JSON", pushtest.Answer{Status: 200, Body: `ya29.x`}, push.Failure{Reason: "unreachable", Retry: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			service := pushtest.NewFCM(t)
			sender := newSender(t, service)
			service.Grants.Then(test.answer)
			for range 3 { // and no more questions for a while
				got := failure(t, sender.Send(t.Context(), device, hello()))
				got.Cause = nil
				if got != test.want {
					t.Errorf("got %+v, want %+v", got, test.want)
				}
			}
			if n, grants := len(service.Requests()), len(service.Grants.Requests()); n != 0 || grants != 1 {
				t.Errorf("%d requests and %d for a token", n, grants)
			}
			tokens := sender.tokens
			tokens.mu.Lock()
			tokens.again = time.Now()
			tokens.mu.Unlock()
			if err := sender.Send(t.Context(), device, hello()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestShortLives has tokens that live less than the time before their end at
// which others are renewed.
func TestShortLives(t *testing.T) {
	service := pushtest.NewFCM(t)
	service.Live(2 * time.Minute)
	sender := newSender(t, service)
	for range 3 {
		if err := sender.Send(t.Context(), device, hello()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(service.Grants.Requests()); n != 1 {
		t.Errorf("%d access tokens", n)
	}
}

// TestPeek goes through a token's life.
func TestPeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTokenSource(nil, nil)
		now := time.Now()
		s.current = accessToken{"a", now.Add(55 * time.Minute), now.Add(time.Hour)}
		expect := func(access string, fresh, failed bool) {
			t.Helper()
			if a, f, failure := s.peek(); a != access || f != fresh || (failure != nil) != failed {
				t.Errorf("%q, fresh %t, %v", a, f, failure)
			}
		}
		expect("a", true, false)
		time.Sleep(55 * time.Minute)
		expect("a", false, false)
		s.failed, s.again = &push.Failure{}, time.Now().Add(6*time.Minute)
		expect("a", true, false)
		time.Sleep(5 * time.Minute)
		expect("", false, true)
		time.Sleep(time.Minute)
		expect("", false, false)
	})
}

// TestWaitersShareAFailure has many ask at once for a token that is not to be had.
func TestWaitersShareAFailure(t *testing.T) {
	service := pushtest.NewFCM(t)
	sender := newSender(t, service)
	service.Grants.Then(pushtest.Answer{Status: 503})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			err := sender.Send(t.Context(), device, hello())
			if f, ok := errors.AsType[*push.Failure](err); !ok || !f.Retry {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if n := len(service.Grants.Requests()); n != 1 {
		t.Errorf("%d requests for a token", n)
	}
}
