package client_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

func TestHistory(t *testing.T) {
	var query, reply string
	a := api(t, func(w http.ResponseWriter, r *http.Request) {
		query = r.Method + " " + r.URL.Path + " " + r.URL.RawQuery
		_, _ = io.WriteString(w, reply)
	})
	at := time.UnixMilli(1234)
	for _, test := range []struct {
		q    client.HistoryQuery
		want string
	}{
		{client.HistoryQuery{}, "log=session%3As"},
		{client.HistoryQuery{After: 7, Since: at, Limit: 5}, "after=7&limit=5&log=session%3As&since=1234"},
		{client.HistoryQuery{Back: true}, "before=0&log=session%3As"},
		{client.HistoryQuery{Back: true, Before: 9, Until: at, After: 7, Since: at}, "before=9&log=session%3As&until=1234"},
	} {
		test.q.Log = room
		reply = `{"messages":[],"floor":1,"head":9,"next":7,"more":true}`
		if p, err := a.History(t.Context(), test.q); err != nil || len(p.Messages) != 0 || p.Floor != 1 || p.Head != 9 || p.Next != 7 || !p.More {
			t.Errorf("page %+v, %v", p, err)
		}
		if want := "GET /v1/messages " + test.want; query != want {
			t.Errorf("asked %s, want %s", query, want)
		}
	}

	reply = `{"messages":[{"dest_session_id":"s","src_id":"s~z","timestamp":3,"seq":2,"edited":{"seq":4,"timestamp":5},"payload":"hi"},
		{"dest_session_id":"s","src_id":"alice","timestamp":3,"seq":3,"type":100}],"floor":1,"head":9,"prev":2,"more":false}`
	p, err := a.History(t.Context(), client.HistoryQuery{Log: room, Back: true})
	if err != nil || len(p.Messages) != 2 || p.Next != 2 || p.More {
		t.Fatalf("page %+v, %v", p, err)
	}
	if m := p.Messages[0]; m.Seq != 2 || m.SrcNode != envelope.AliasOf("s", "z") || string(m.Body) != `"edited":{"seq":4,"timestamp":5},"payload":"hi"` {
		t.Errorf("first is %+v", m)
	}
	if m := p.Messages[1]; m.Type != envelope.TypeJoined {
		t.Errorf("second is %+v", m)
	}
	reply = `{"messages":[{"dest_session_id":7}]}`
	if _, err := a.History(t.Context(), client.HistoryQuery{Log: room}); err == nil {
		t.Error("took what is no message")
	}
}
