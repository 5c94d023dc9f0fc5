package client_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
)

// A header is told in its place among the messages, and once.
func TestOnHeader(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		room := envelope.SessionID("r").Address()
		header := func(seq uint64) envelope.Control {
			return envelope.Control{
				Control: envelope.ControlHeader, Log: room.String(), Seq: seq, NodeID: "boss", Payload: fmt.Appendf(nil, `{"n":%d}`, seq),
			}
		}
		entry := func(seq uint64) envelope.Envelope {
			return envelope.Envelope{DestSession: "r", SrcNode: "x", Seq: seq, Body: fmt.Appendf(nil, `"n":%d`, seq)}
		}
		s := new(clienttest.Server)
		w.serve("a", s)
		var got []string
		c := w.start(client.Options{OnHeader: func(h client.Header) {
			got = append(got, fmt.Sprint("h", h.Seq, " ", h.Node, " ", string(h.Document)))
			if h.Log != room {
				t.Errorf("the header of %s", h.Log)
			}
		}})
		pass(time.Second)
		server := s.Conn("bob")
		server.WriteControl(header(7))
		server.WriteMessage(entry(9))
		server.WriteControl(header(7)) // as after a reconnect
		server.WriteControl(header(5))
		server.WriteControl(header(12))
		server.WriteMessage(entry(13))
		for range 2 {
			got = append(got, receive(t, c, 1)...)
		}
		if want := []string{`h7 boss {"n":7}`, `"n":9`, `h12 boss {"n":12}`, `"n":13`}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestHeaderCalls(t *testing.T) {
	var calls []string
	a := api(t, func(w http.ResponseWriter, r *http.Request) {
		calls = append(calls, r.Method+" "+r.URL.Path)
		if r.Method == http.MethodPut {
			_, _ = fmt.Fprint(w, `{"session_id":"r","seq":4,"node_id":"me"}`)
			return
		}
		_, _ = fmt.Fprint(w, `{"session_id":"r","seq":4,"node_id":"me","payload":[1, 2]}`)
	})
	set, err := a.SetHeader(t.Context(), "r", []byte("[1, 2]"))
	got, err2 := a.Header(t.Context(), "r")
	if err != nil || err2 != nil || fmt.Sprint(set) != fmt.Sprint(got) || got.Seq != 4 || got.Node != "me" || string(got.Document) != "[1, 2]" {
		t.Errorf("%+v, %v; %+v, %v", set, err, got, err2)
	}
	if !slices.Equal(calls, []string{"PUT /v1/sessions/r/header", "GET /v1/sessions/r/header"}) {
		t.Errorf("calls %q", calls)
	}
}
