package embedded

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// What another Advance has written between the look and the write is not undone,
// whether it can be read already or not.
func TestAdvanceInBetween(t *testing.T) {
	s := openIn(t, t.TempDir())
	defer mustClose(t, s)
	at := func(delivered, read uint64) []inbox.Cursor {
		return []inbox.Cursor{{Node: "bob", Log: room, Delivered: delivered, Read: read}}
	}
	step := func(name string, prepared *advance, want inbox.Cursor) {
		t.Helper()
		if err := s.do(t.Context(), lazy, prepared.run); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Cursors(t.Context(), "bob"); err != nil || len(got) != 1 || got[0] != want {
			t.Fatalf("%s: %v, %v", name, got, err)
		}
	}
	prepare := func(cursors []inbox.Cursor) *advance {
		t.Helper()
		a, err := s.newAdvance(cursors)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	both := func(first, second *advance) *advance { // in one batch, where the first cannot be read yet
		t.Helper()
		err := s.do(t.Context(), lazy, func(b *pebble.Batch) error { return errors.Join(first.run(b), second.run(b)) })
		if err != nil {
			t.Fatal(err)
		}
		return prepare(at(0, 0))
	}
	early, late := prepare(at(3, 2)), prepare(at(4, 0))
	step("alone", prepare(at(9, 1)), at(9, 1)[0])
	step("beside one", early, at(9, 2)[0])
	step("beside two", late, at(9, 2)[0])
	step("alone again", prepare(at(10, 0)), at(10, 2)[0])
	step("two at once", both(prepare(at(20, 0)), prepare(at(15, 9))), at(20, 9)[0])
	if seen := s.advances[0].seen.Load(); seen != 7 {
		t.Errorf("%d of 7 seen: each would look twice", seen)
	}

	// Events come all the time, and are nobody else's.
	prepared := prepare(at(21, 0))
	err := s.Advance(t.Context(), []inbox.Cursor{{Node: "bob", Log: envelope.Address{Kind: envelope.KindHook, ID: "1"}, Delivered: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if s.advances[0].begun != prepared.seen[0] {
		t.Error("a receiver's cursor has the devices' looked at again")
	}
}
