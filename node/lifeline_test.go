package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errBefore = errors.New("the one before it ended")
	errCut    = errors.New("it was cut")
)

// lineEnd cuts a lifeline when the context before it ends.
type lineEnd struct{ *lifeline }

func (e lineEnd) cancel(why error) { e.cut(why) }

func TestLifeline(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(l *lifeline, before context.CancelCauseFunc)
		want error
	}{
		"cut":                {func(l *lifeline, _ context.CancelCauseFunc) { l.cut(errCut) }, errCut},
		"cut without reason": {func(l *lifeline, _ context.CancelCauseFunc) { l.cut(nil) }, context.Canceled},
		"end of the other":   {func(_ *lifeline, before context.CancelCauseFunc) { before(errBefore) }, errBefore},
		"first reason counts": {func(l *lifeline, before context.CancelCauseFunc) {
			l.cut(errCut)
			before(errBefore)
		}, errCut},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				l := lifeline{Context: before}
				var ends lines
				ends.tie(before, lineEnd{&l})
				derived, done := context.WithCancel(&l)
				defer done()
				within, end := l.within(time.Hour)
				defer end()
				left, leave := l.within(time.Hour)
				leave()
				if l.Err() != nil || l.cause() != nil || derived.Err() != nil || within.Err() != nil || left.Err() == nil {
					t.Error("ended too early, or not")
				}
				tt.end(&l, cancel)
				synctest.Wait()
				if !errors.Is(l.cause(), tt.want) || !errors.Is(l.Err(), context.Canceled) {
					t.Errorf("ended with %v because of %v", l.Err(), l.cause())
				}
				for _, ctx := range []context.Context{&l, derived, within} {
					select {
					case <-ctx.Done():
					default:
						t.Error("something derived from it goes on")
					}
				}
				late, end := l.within(time.Hour)
				defer end()
				synctest.Wait()
				if late.Err() == nil {
					t.Error("something begins after the end")
				}
			})
		})
	}
}

// What is derived takes no memory after its end.
func TestLifelineForgets(t *testing.T) {
	l := lifeline{Context: t.Context()}
	_, end := l.within(time.Hour)
	if len(l.after) != 1 {
		t.Errorf("%d functions wait", len(l.after))
	}
	if end(); l.after != nil || l.done != nil {
		t.Error("something is left")
	}
}

// Those who are tied to a context end with it, those who are not any more do not,
// and nothing is kept of either.
func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ends lines
		first, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		second, other := context.WithCancelCause(t.Context())
		defer other(nil)
		var of [4]lifeline
		for i := range of {
			ends.tie([]context.Context{first, second}[i/2], lineEnd{&of[i]})
		}
		ends.untie(first, lineEnd{&of[1]})
		ends.untie(first, lineEnd{&of[1]})
		cancel(errBefore)
		synctest.Wait()
		if !errors.Is(of[0].cause(), errBefore) || of[1].cause() != nil || of[2].cause() != nil || of[3].cause() != nil {
			t.Errorf("ended: %v, %v, %v, %v", of[0].cause(), of[1].cause(), of[2].cause(), of[3].cause())
		}
		var late lifeline
		ends.tie(first, lineEnd{&late})
		synctest.Wait()
		if !errors.Is(late.cause(), errBefore) {
			t.Errorf("who is tied to what has ended: %v", late.cause())
		}
		ends.untie(second, lineEnd{&of[2]})
		ends.untie(second, lineEnd{&of[3]})
		if len(ends.of) != 0 {
			t.Errorf("%d are kept", len(ends.of))
		}
	})
}
