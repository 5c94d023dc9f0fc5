package mongo

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slowTable takes a second for each read and counts how many run at once.
type slowTable struct {
	table
	mu        sync.Mutex
	now, most int
}

func (s *slowTable) tip(ctx context.Context, _ string) (tip, error) {
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	err := sleep(ctx, time.Second)
	s.mu.Lock()
	s.now--
	s.mu.Unlock()
	return tip{seq: 7}, err
}

func TestLanesThatCatchUpTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowTable{}
		o := orderly{slow, make(chan struct{}, catchingUp)}
		began := time.Now()
		var reading sync.WaitGroup
		for range 3 * catchingUp {
			reading.Go(func() {
				if last, err := o.tip(t.Context(), "log"); last.seq != 7 || err != nil {
					t.Error(last, err)
				}
			})
		}
		synctest.Wait()
		hurried, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := o.tip(hurried, "log"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one that cannot wait got %v", err)
		}
		reading.Wait()
		if took := time.Since(began); took != 3*time.Second || slow.most != catchingUp {
			t.Errorf("%v, %d at once", took, slow.most)
		}
	})
}
