package node

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Edits and deletions beside each other and from several servers: whatever
// order they are numbered in, a page shows what the log says.
func TestRandomRevisions(t *testing.T) {
	for i, seed := range seeds(t, 4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inMeshOf(t, 2, shared(i%2 == 0), func(t *testing.T, m *mesh) {
				randomRevisions(t, m, rand.New(rand.NewPCG(seed, 0)))
			})
		})
	}
}

func randomRevisions(t *testing.T, m *mesh, rnd *rand.Rand) {
	ctx := t.Context()
	if err := second(m.api("alice", "alice", "a").CreateSession(ctx, "r", envelope.Settings{})); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"bob", "carol"} {
		if err := second(m.api(id, id, "b").JoinSession(ctx, "r")); err != nil {
			t.Fatal(err)
		}
	}
	people := []string{"alice", "bob"}
	log, head, sent := room("r"), uint64(3), 0
	for range 60 {
		// Some at once, so that those who decide do not know of each other.
		results := make(chan error, 4)
		for range cap(results) {
			sent++
			id, seq := fmt.Sprint("m", sent), 1+rnd.Uint64N(head+2)
			e := to(log, id, id)
			switch n := rnd.IntN(20); {
			case n < 9:
				e = edit(log, id, seq, id)
			case n < 11:
				e = deletion(log, id, seq)
			}
			who, at := people[rnd.IntN(2)], string("ab"[rnd.IntN(2)])
			go func() {
				_, err := m.sendAs(as(who), at, e)
				results <- err
			}()
		}
		for range cap(results) {
			switch err := <-results; envelope.CodeOf(err) {
			case "", envelope.NotFound, envelope.Forbidden:
			default:
				t.Fatal(err)
			}
		}
		extent, err := m.store.Extent(ctx, log)
		if err != nil {
			t.Fatal(err)
		}
		if head = extent.Head; rnd.IntN(20) == 0 {
			if err := m.store.Trim(ctx, log, rnd.Uint64N(head/2), time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	}

	entries, err := m.store.Read(ctx, log, 0, 1000, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	// What carol joined at is her floor.
	all := revisedByTheLog(entries[max(0, 3-int(entries[0].Seq)):])
	var wantForth, wantBack []string
	revised := 0
	for _, e := range all {
		wantForth = append(wantForth, e.body)
		if !e.revision {
			wantBack = append(wantBack, e.body)
		}
		if e.revised {
			revised++
		}
	}
	if revised < 5 {
		t.Errorf("only %d were revised", revised)
	}
	for range 10 {
		limit := 1 + rnd.IntN(30)
		var forth, back []string
		for _, backwards := range []bool{false, true} {
			query, pages := "after", &forth
			if backwards {
				query, pages = "before", &back
			}
			for at, more := uint64(0), true; more; {
				var p backPage
				if code := m.ask("carol", string("ab"[rnd.IntN(2)]), fmt.Sprintf("/v1/messages?log=session:r&limit=%d&%s=%d", limit, query, at), &p); code != "" {
					t.Fatal(code)
				}
				if len(p.Messages) > limit {
					t.Errorf("%d entries, limit %d", len(p.Messages), limit)
				}
				if more = p.More; backwards {
					*pages, at = append(p.bodies(t), *pages...), p.Prev
				} else {
					*pages, at = append(*pages, p.bodies(t)...), p.Next
				}
			}
		}
		if !slices.Equal(forth, wantForth) || !slices.Equal(back, wantBack) {
			t.Fatalf("limit %d:\nforth %q\nwant  %q\nback  %q\nwant  %q", limit, forth, wantForth, back, wantBack)
		}
	}
}

// shown is what a page shows of an entry.
type shown struct {
	body     string
	revision bool // it is one
	revised  bool
}

// revisedByTheLog is what pages show of a log, as simply as it can be told.
func revisedByTheLog(entries []envelope.Envelope) (all []shown) {
	deleted := func(seq uint64) bool {
		return seq != 0 && slices.ContainsFunc(entries, func(e envelope.Envelope) bool { return e.Deletes == seq })
	}
	for i := range entries {
		e := &entries[i]
		body := string(e.Body)
		for j := range entries {
			if by := &entries[j]; by.Edits == e.Seq {
				body = fmt.Sprintf(`"edited":{"seq":%d,"timestamp":%d},%s`, by.Seq, by.Timestamp, by.Body)
			}
		}
		if deleted(e.Seq) || deleted(e.Edits) {
			body = `"deleted":true`
		}
		all = append(all, shown{fmt.Sprintf("%d %s", e.Seq, body), e.Revises() != 0, body != string(e.Body)})
	}
	return all
}
