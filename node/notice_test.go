package node

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

var notices = []gateway.Event{
	gateway.Receipt{ID: "1", Log: room("r"), Seq: 1 << 40, Read: true, Node: "bob-phone", Client: "bob"},
	gateway.Receipt{Log: deviceAddr("bob"), Seq: 1, Node: "bob", Client: "bob"},
	gateway.ReadMark{Cursors: map[envelope.Address]uint64{user("bob"): 7, room("r"): 1 << 53}},
}

func TestNoticesBetweenServers(t *testing.T) {
	for _, ev := range notices {
		body := noticeBody(user("bob"), "bob-phone", ev)
		addr, except, got, err := parseNotice(envelope.NewReader(body))
		if err != nil || addr != user("bob") || except != "bob-phone" || !reflect.DeepEqual(got, ev) {
			t.Errorf("%+v became %+v for %s but %s, %v", ev, got, addr, except, err)
		}
	}
}

func FuzzNotice(f *testing.F) {
	for _, ev := range notices {
		f.Add(noticeBody(user("bob"), "bob-phone", ev))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		addr, except, ev, err := parseNotice(envelope.NewReader(body))
		if err != nil {
			return
		}
		again := noticeBody(addr, except, ev)
		addr2, except2, ev2, err := parseNotice(envelope.NewReader(again))
		if err != nil || addr2 != addr || except2 != except || !reflect.DeepEqual(ev2, ev) {
			t.Fatalf("%+v became %+v, %v", ev, ev2, err)
		}
		if _, marks := ev.(gateway.ReadMark); !marks && !bytes.Equal(again, noticeBody(addr2, except2, ev2)) {
			t.Fatal("not always the same bytes")
		}
	})
}
