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
				var l lifeline
				l.tie(before, func(why error) { l.cut(why) })
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
	var l lifeline
	l.tie(t.Context(), func(why error) { l.cut(why) })
	_, end := l.within(time.Hour)
	if len(l.after) != 1 {
		t.Errorf("%d functions wait", len(l.after))
	}
	if end(); l.after != nil || l.done != nil {
		t.Error("something is left")
	}
}
