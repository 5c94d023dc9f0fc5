package embedded

import (
	"testing"

	"github.com/allsparkrt/allspark/store/storetest"
)

func openIn(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t,
		func(t testing.TB) storetest.Store { return openIn(t, t.TempDir()) },
		storetest.Options{Reopen: func(t testing.TB, s storetest.Store) storetest.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return openIn(t, s.(*Store).options.Dir)
		}})
}
