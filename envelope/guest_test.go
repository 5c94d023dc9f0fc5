package envelope

import (
	"testing"
	"time"
)

func TestGuestID(t *testing.T) {
	ends := time.Unix(1795196896, 999)
	id := GuestID(ends, "x-y")
	if got, ok := GuestEnds(id); !ok || got.Unix() != ends.Unix() || !ValidID(id) {
		t.Errorf("%s ends at %v, %v", id, got, ok)
	}
	for _, id := range []string{
		"", "guest", "guest-", "guest-1", "guest-1-", "guest--1", "guest-1", "Guest-1-x", "guest_1-x", "alice",
		"guest-+1-x", "guest-1_0-x", "guest-zzzzzzzzz-x", "guest-1-a b", "guest-1-~",
	} {
		if got, ok := GuestEnds(id); ok {
			t.Errorf("%q is a guest until %v", id, got)
		}
	}
}
