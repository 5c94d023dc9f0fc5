package embedded

import (
	"testing"

	"github.com/allsparkrt/allspark/store/storetest"
)

func openIn(t testing.TB, dir string) *Store {
	t.Helper()
	return openWith(t, Options{Dir: dir})
}

func openWith(t testing.TB, o Options) *Store {
	t.Helper()
	if _, is := t.(*testing.T); is {
		o.zeroStep = 16 << 10 // several in one file, and quickly read under the race detector
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	for name, o := range map[string]Options{
		"default":  {},
		"small":    {Heads: 1, MemtableBytes: 64 << 10, CacheBytes: 1 << 20, FilterBytes: 2 * blockBytes}, // nothing is in memory
		"segments": {SegmentBytes: 1},                                                                     // one for each entry, while there is little
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t,
				func(t testing.TB) storetest.Store {
					o := o
					o.Dir, o.Quotas = t.TempDir(), storetest.Quotas()
					return openWith(t, o)
				},
				storetest.Options{Reopen: func(t testing.TB, s storetest.Store) storetest.Store {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					return openWith(t, s.(*Store).options)
				}})
		})
	}
}
