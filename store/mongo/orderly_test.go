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

func (s *slowTable) head(ctx context.Context, _ string) (uint64, error) {
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	err := sleep(ctx, time.Second)
	s.mu.Lock()
	s.now--
	s.mu.Unlock()
	return 7, err
}

func TestLanesThatCatchUpTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowTable{}
		o := orderly{slow, make(chan struct{}, catchingUp)}
		began := time.Now()
		var reading sync.WaitGroup
		for range 3 * catchingUp {
			reading.Go(func() {
				if head, err := o.head(t.Context(), "log"); head != 7 || err != nil {
					t.Error(head, err)
				}
			})
		}
		synctest.Wait()
		hurried, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := o.head(hurried, "log"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one that cannot wait got %v", err)
		}
		reading.Wait()
		if took := time.Since(began); took != 3*time.Second || slow.most != catchingUp {
			t.Errorf("%v, %d at once", took, slow.most)
		}
	})
}
