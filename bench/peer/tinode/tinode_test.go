package tinode

import (
	"encoding/json"
	"fmt"
	"testing"
)

func TestParseData(t *testing.T) {
	for _, tt := range []struct {
		in, topic, to, body string
		seq                 uint64
		other               bool
	}{
		{
			in:    `{"data":{"topic":"usrA","from":"usrB","ts":"2026-11-20T20:00:00.000Z","seq":17,"content":"bob hello there"}}`,
			topic: "usrA", to: "bob", body: "hello there", seq: 17,
		},
		{in: `{"ctrl":{"id":"1","code":200}}`, other: true},
		{in: `{"data":{"topic":"usrA","seq":17,"content":{"txt":"hello"}}}`, other: true},
		{in: `{"data":{"topic":"usrA","seq":17,"content":"hello`, other: true},
		{in: `{"data":{"topic":"usrA`, other: true},
		{in: "", other: true},
	} {
		d, ok := parseData([]byte(tt.in))
		if ok == tt.other {
			t.Errorf("%s: %v", tt.in, ok)
		} else if ok && (string(d.topic) != tt.topic || string(d.to) != tt.to || string(d.body) != tt.body || d.seq != tt.seq) {
			t.Errorf("%s: %s %s %s %d", tt.in, d.topic, d.to, d.body, d.seq)
		}
	}
}

func TestParseCtrl(t *testing.T) {
	c, ok, err := parseCtrl([]byte(`{"ctrl":{"id":"2","params":{"authlvl":"auth","token":"abc","user":"usrA"},"code":201,"text":"created","ts":"x"}}`))
	if err != nil || !ok || c.ID != "2" || c.Params.User != "usrA" || c.Params.Token != "abc" || c.err() != nil {
		t.Errorf("%+v, %v, %v", c, ok, err)
	}
	c, ok, err = parseCtrl([]byte(`{"ctrl":{"id":"2","code":403,"text":"permission denied"}}`))
	if err != nil || !ok || c.err() == nil {
		t.Errorf("%+v, %v, %v", c, ok, err)
	}
	if _, ok, err := parseCtrl([]byte(`{"pres":{}}`)); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if _, ok, err := parseCtrl([]byte(`{"ctrl":`)); ok || err == nil {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		got  []byte
		want string
	}{
		{appendHi(nil, 1), `{"hi":{"id":"1","ver":"0.25","ua":"bench"}}`},
		{appendAccount(nil, 3, "bob", "secret"), `{"acc":{"id":"3","user":"newbob","scheme":"basic","login":true,"secret":"Ym9iOnNlY3JldA=="}}`},
		{appendLogin(nil, 3, "abc"), `{"login":{"id":"3","scheme":"token","secret":"abc"}}`},
		{appendSub(nil, 5, "usrA"), `{"sub":{"id":"5","topic":"usrA"}}`},
		{appendPub(nil, 6, "usrA", "bob", []byte("hi")), `{"pub":{"id":"6","noecho":true,"topic":"usrA","content":"bob hi"}}`},
		{appendReceived(nil, []byte("usrA"), 7), `{"note":{"what":"recv","topic":"usrA","seq":7}}`},
		{fmt.Appendf(nil, config, "127.0.0.1:1", "127.0.0.1:2", 3), ""},
	} {
		if tt.want != "" && string(tt.got) != tt.want || !json.Valid(tt.got) {
			t.Errorf("%s, want %s", tt.got, tt.want)
		}
	}
}

func FuzzParseData(f *testing.F) {
	f.Add([]byte(`{"data":{"topic":"usrA","seq":17,"content":"bob hello there"}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if d, ok := parseData(in); ok && len(d.topic)+len(d.to)+len(d.body) >= len(in) {
			t.Errorf("%q: %q %q %q", in, d.topic, d.to, d.body)
		}
	})
}
