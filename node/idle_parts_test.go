package node

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Alarms go off in the order of their times, those set anew at the new one, and
// those removed never.
func TestAlarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAlarms(time.Now())
		const n = 100
		var conns [n]*conn
		want := make(map[*conn]time.Duration)
		for i := range conns {
			conns[i] = new(conn)
			for range 1 + rand.N(3) {
				want[conns[i]] = time.Duration(rand.N(1000))
				a.set(conns[i], want[conns[i]])
			}
		}
		for _, c := range conns[:n/4] {
			a.remove(c)
			a.remove(c)
			delete(want, c)
		}
		if c, wait := a.next(); c != nil && want[c] > 0 || wait > 1000 {
			t.Errorf("goes off at the beginning, or in %v", wait)
		}
		time.Sleep(time.Millisecond)
		var got []time.Duration
		for {
			c, wait := a.next()
			if c == nil {
				if wait != time.Hour { // they are there, and never
					t.Errorf("the next one in %v", wait)
				}
				break
			}
			a.set(c, never) // as ring does when nothing else is due
			got = append(got, want[c])
		}
		if !slices.IsSorted(got) || len(got) < len(want)-1 {
			t.Errorf("%d of %d went off: %v", len(got), len(want), got)
		}
	})
}

func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 3
		var mu sync.Mutex
		var p places
		var at, high, went int
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				mu.Lock()
				if !p.take(t.Context(), &mu, most) {
					t.Error("no place")
				}
				at++
				high = max(high, at)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				defer mu.Unlock()
				at--
				went++
				p.leave()
			})
		}
		all.Wait()
		if high != most || went != 20 || p.taken != 0 || p.freed != nil {
			t.Errorf("%d at once, %d in all, %+v", high, went, p)
		}
		mu.Lock()
		defer mu.Unlock()
		p.taken = most
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if p.take(ctx, &mu, most) || p.taken != most {
			t.Error("a place where there is none")
		}
	})
}

// The line of who is to be looked at is what a map to the highest urgency would be.
func TestLookLine(t *testing.T) {
	var line lookLine
	want := make(map[*watch]urgency)
	all := make([]watch, 3*lookBatch)
	for i := range 300 {
		for range rand.N(lookBatch) {
			at := &all[rand.N(len(all))]
			switch {
			case rand.N(8) == 0: // nobody follows it any more
				delete(want, at)
				at.due = notDue
			default:
				how := lookSoon + urgency(rand.N(int(urgencies-lookSoon)))
				want[at] = max(want[at], how)
				line.add(at, how)
			}
		}
		for range 1 + i%3 {
			most := notDue
			for _, how := range want {
				most = max(most, how)
			}
			some, how := line.take()
			if how != most {
				t.Fatalf("urgency %d instead of %d", how, most)
			}
			for _, at := range some {
				if want[at] != how {
					t.Fatalf("one of urgency %d instead of %d", want[at], how)
				}
				delete(want, at)
			}
			for _, left := range want {
				if left == how && len(some) < lookBatch {
					t.Fatalf("%d, and there are more", len(some))
				}
			}
			if len(some) > lookBatch {
				t.Fatal(len(some))
			}
		}
	}
	for some, _ := line.take(); len(some) > 0; some, _ = line.take() {
		for _, at := range some {
			delete(want, at)
		}
	}
	if len(want) > 0 {
		t.Errorf("%d are left", len(want))
	}
}

func TestFollowers(t *testing.T) {
	var of followers
	var want []*follow
	var some [5]follow
	for range 10_000 {
		f := &some[rand.N(len(some))]
		if i := slices.Index(want, f); i >= 0 {
			of.remove(f)
			want = slices.Delete(want, i, i+1)
		} else {
			of.add(f)
			want = append(want, f)
		}
		if got := slices.Collect(of.all()); !slices.Equal(got, want) || of.none() != (len(want) == 0) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}
