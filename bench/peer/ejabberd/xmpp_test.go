package ejabberd

import (
	"testing"
)

func TestElement(t *testing.T) {
	for _, tt := range []struct{ in, kind, id, kindAttr, body string }{
		{in: "<r xmlns='urn:xmpp:sm:3'/>", kind: "r"},
		{in: "<success/>", kind: "success"},
		{in: "<stream:features><bind/></stream:features>", kind: "stream:features"},
		{in: "<iq type='result' id='bind'><jid id='inner'/></iq>", kind: "iq", id: "bind", kindAttr: "result"},
		{in: `<message type="chat" id="7"><body>hello</body></message>`, kind: "message", id: "7", kindAttr: "chat", body: "hello"},
		{in: "<message><event><item id='x'><message><body>inner</body></message></item></event></message>", kind: "message", body: "inner"},
		{in: "<message type='groupchat'><subject/></message>", kind: "message", kindAttr: "groupchat"},
		{in: "<message><body>cut", kind: "message"},
		{in: "<message id='cut", kind: "message"},
		{in: "<message id="},
		{in: "<iq"},
		{in: "text"},
		{in: ""},
	} {
		e := []byte(tt.in)
		if got := kind(e); tt.kind != "" && got != tt.kind {
			t.Errorf("%s: is a %q", tt.in, got)
		}
		if got := attribute(e, "id"); string(got) != tt.id {
			t.Errorf("%s: id %q", tt.in, got)
		}
		if got := attribute(e, "type"); string(got) != tt.kindAttr {
			t.Errorf("%s: type %q", tt.in, got)
		}
		if got, ok := body(e); string(got) != tt.body || ok != (tt.body != "") {
			t.Errorf("%s: body %q", tt.in, got)
		}
	}
}

func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		got  []byte
		want string
	}{
		{appendAuth(nil, "juliet", "r0m30myr0m30"), "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGp1bGlldAByMG0zMG15cjBtMzA=</auth>"}, // RFC 6120, section 9.1.2, without its authzid
		{appendMessage(nil, "bob", host, kindDurable, []byte("hi")), "<message to='bob@localhost' type='chat'><body>hi</body></message>"},
		{appendHandled(nil, 17), "<a xmlns='urn:xmpp:sm:3' h='17'/>"},
	} {
		if string(tt.got) != tt.want {
			t.Errorf("%s, want %s", tt.got, tt.want)
		}
	}
}

func FuzzElement(f *testing.F) {
	f.Add([]byte("<message id='1'><body>x</body></message>"))
	f.Add([]byte("<a h='"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if k := kind(in); len(k) >= len(in) && k != "" {
			t.Errorf("%q is a %q", in, k)
		}
		if b, ok := body(in); ok && len(b)+len(bodyStart)+len(bodyEnd) > len(in) {
			t.Errorf("%q has the body %q", in, b)
		}
		attribute(in, "h")
	})
}
