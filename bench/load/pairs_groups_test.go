package load

import "testing"

// However many groups there are, nobody has more of them than others but for one, and
// no two are of the same two.
func TestTwoOf(t *testing.T) {
	for _, groups := range []int{512, 10_000, 100_000} {
		x := &exchange{pairs: pairs{Users: 768, Senders: 256}}
		of := make(map[int]int)
		pairs := make(map[[2]int]bool)
		for k := range groups {
			sender, listener := x.twoOf(k)
			if sender < 0 || sender >= 256 || listener < 256 || listener >= 768 {
				t.Fatalf("group %d is of %d and %d", k, sender, listener)
			}
			of[sender]++
			of[listener]++
			pairs[[2]int{sender, listener}] = true
		}
		if len(pairs) != groups {
			t.Errorf("%d groups of %d pairs", groups, len(pairs))
		}
		for user := range 768 {
			want := groups / 512
			if user < 256 {
				want = groups / 256
			}
			if of[user] != want && of[user] != want+1 {
				t.Fatalf("of %d groups user %d is in %d, want %d or one more", groups, user, of[user], want)
			}
		}
	}
}
