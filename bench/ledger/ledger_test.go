package ledger

import (
	"slices"
	"testing"
	"testing/quick"
)

// event is one line of a recorded history. A send gets the next number of its
// stream.
type event struct {
	what byte // 's'end, 'a'cknowledged, 'f'ailed, 'r'eceived
	s    Stream
	n    int
}

func TestVerdictOnHistories(t *testing.T) {
	ab, ba, cb := Stream{0, 1}, Stream{1, 0}, Stream{2, 1}
	for _, tt := range []struct {
		name    string
		history []event
		want    Verdict
		good    bool
	}{
		{"nothing", nil, Verdict{}, true},
		{"one", []event{{'s', ab, 0}, {'a', ab, 1}, {'r', ab, 1}}, Verdict{Sent: 1, Taken: 1, Received: 1}, true},
		{"received before the answer", []event{{'s', ab, 0}, {'r', ab, 1}, {'a', ab, 1}}, Verdict{Sent: 1, Taken: 1, Received: 1}, true},
		{"lost", []event{{'s', ab, 0}, {'s', ab, 0}, {'a', ab, 1}, {'a', ab, 2}, {'r', ab, 2}}, Verdict{Sent: 2, Taken: 2, Received: 1, Lost: 1}, false},
		{"lost in one stream, received in others", []event{{'s', ab, 0}, {'s', ba, 0}, {'a', ab, 1}, {'a', ba, 1}, {'r', ba, 1}}, Verdict{Sent: 2, Taken: 2, Received: 1, Lost: 1}, false},
		{"unanswered and not received", []event{{'s', ab, 0}}, Verdict{Sent: 1}, true},
		{"refused and not received", []event{{'s', ab, 0}, {'f', ab, 1}}, Verdict{Sent: 1, Refused: 1}, true},
		{"refused and received all the same", []event{{'s', ab, 0}, {'f', ab, 1}, {'r', ab, 1}}, Verdict{Sent: 1, Refused: 1, Received: 1}, true},
		{"twice", []event{{'s', ab, 0}, {'a', ab, 1}, {'r', ab, 1}, {'r', ab, 1}}, Verdict{Sent: 1, Taken: 1, Received: 1, Duplicated: 1}, false},
		{"acknowledged twice", []event{{'s', ab, 0}, {'a', ab, 1}, {'a', ab, 1}, {'r', ab, 1}}, Verdict{Sent: 1, Taken: 1, Received: 1}, true},
		{"swapped", []event{{'s', ab, 0}, {'s', ab, 0}, {'r', ab, 2}, {'r', ab, 1}}, Verdict{Sent: 2, Received: 2, OutOfOrder: 1}, false},
		{"a late one counts once", []event{{'s', ab, 0}, {'s', ab, 0}, {'s', ab, 0}, {'r', ab, 1}, {'r', ab, 3}, {'r', ab, 2}}, Verdict{Sent: 3, Received: 3, OutOfOrder: 1}, false},
		{"an old one again is a duplicate, not out of order", []event{{'s', ab, 0}, {'s', ab, 0}, {'r', ab, 1}, {'r', ab, 2}, {'r', ab, 1}}, Verdict{Sent: 2, Received: 2, Duplicated: 1}, false},
		{"a hole is not out of order", []event{{'s', ab, 0}, {'s', ab, 0}, {'f', ab, 1}, {'r', ab, 2}}, Verdict{Sent: 2, Refused: 1, Received: 1}, true},
		{"streams are apart", []event{{'s', ab, 0}, {'s', ab, 0}, {'s', cb, 0}, {'r', ab, 1}, {'r', ab, 2}, {'r', cb, 1}}, Verdict{Sent: 3, Received: 3}, true},
		{"never sent", []event{{'s', ab, 0}, {'r', ba, 1}, {'r', ab, 2}, {'r', ab, 0}}, Verdict{Sent: 1, Strange: 3}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := New()
			for _, e := range tt.history {
				switch e.what {
				case 's':
					l.Send(e.s)
				case 'a':
					l.Take(e.s, e.n)
				case 'f':
					l.Refuse(e.s, e.n)
				case 'r':
					l.Receive(e.s, e.n)
				}
			}
			if got := l.Verdict(); got != tt.want || got.Good() != tt.good {
				t.Errorf("got  %+v, good %v\nwant %+v", got, got.Good(), tt.want)
			}
		})
	}
}

func TestBits(t *testing.T) {
	err := quick.Check(func(in, other []uint16) bool {
		var a, b Bits
		for _, n := range in {
			a.Set(int(n))
		}
		for _, n := range other {
			b.Set(int(n))
		}
		slices.Sort(in)
		want := 0
		for _, n := range slices.Compact(in) {
			if !slices.Contains(other, n) {
				want++
			}
		}
		return a.without(&b) == want && (len(in) == 0 || !a.Set(int(in[0])))
	}, nil)
	if err != nil {
		t.Error(err)
	}
}

func BenchmarkMessage(b *testing.B) {
	l := New()
	n := 0
	for b.Loop() {
		s := Stream{From: n % 1000, To: n * 7 % 1000}
		k := l.Send(s)
		l.Take(s, k)
		l.Receive(s, k)
		n++
	}
}
