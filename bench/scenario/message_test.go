package scenario

import (
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

func TestStampRoundTrip(t *testing.T) {
	want := stamp{run: "r", from: 7, n: 12345, due: 98765 * time.Microsecond}
	for _, size := range []int{0, 200} {
		e := envelope.Envelope{DestNode: "x", Body: want.body(size)}
		var p envelope.Parser
		got, err := p.Parse(e.AppendRequest(nil))
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := readStamp(got.Body); !ok || s != want || len(got.Body) < size || size > 0 && len(got.Body) != size {
			t.Errorf("%s: %+v", got.Body, s)
		}
	}
}

func FuzzReadStamp(f *testing.F) {
	f.Add([]byte(`"payload":"r 1 2 3 "`))
	f.Add([]byte(`"payload":"r 1 2"`))
	f.Add([]byte(`"payload":"r 1 2 x "`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, ok := readStamp(body)
		if !ok {
			return
		}
		if again, ok := readStamp(s.body(0)); !ok || again != s {
			t.Errorf("%+v became %+v", s, again)
		}
	})
}
