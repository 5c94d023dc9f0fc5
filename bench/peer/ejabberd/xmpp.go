package ejabberd

import (
	"bytes"
	"encoding/base64"
	"strconv"
)

// Each WebSocket message is one XML element (RFC 7395, section 3.3), written by
// the server without white space between attributes other than one space. What
// is looked for in them is found without reading the rest. Bodies need no escaping, see
// peer.Message.

const host = "localhost"

const rooms = "conference." + host

// kind returns an element's name.
func kind(element []byte) string {
	if len(element) == 0 || element[0] != '<' {
		return ""
	}
	end := bytes.IndexAny(element, " />")
	if end < 0 {
		return ""
	}
	return string(element[1:end])
}

// attribute returns an attribute of the outermost element; nil: it has none.
func attribute(element []byte, name string) []byte {
	if end := bytes.IndexByte(element, '>'); end >= 0 {
		element = element[:end]
	}
	_, value, ok := bytes.Cut(element, []byte(" "+name+"="))
	if !ok || len(value) == 0 {
		return nil
	}
	quote := value[0]
	value = value[1:]
	end := bytes.IndexByte(value, quote)
	if end < 0 {
		return nil
	}
	return value[:end]
}

var (
	bodyStart = []byte("<body>")
	bodyEnd   = []byte("</body>")
)

// body returns what is in <body>; false: there is none.
func body(element []byte) ([]byte, bool) {
	_, b, ok := bytes.Cut(element, bodyStart)
	if !ok {
		return nil, false
	}
	b, _, ok = bytes.Cut(b, bodyEnd)
	if !ok {
		return nil, false
	}
	return b, true
}

func appendAll(b []byte, parts ...string) []byte {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// appendOpen appends the beginning of a stream (RFC 7395, section 3.4).
func appendOpen(b []byte) []byte {
	return appendAll(b, "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='", host, "' version='1.0'/>")
}

// appendRegister asks for an account (XEP-0077).
func appendRegister(b []byte, user, password string) []byte {
	return appendAll(b, "<iq type='set' id='register'><query xmlns='jabber:iq:register'><username>", user,
		"</username><password>", password, "</password></query></iq>")
}

// appendAuth logs in (RFC 6120, section 6, and RFC 4616).
func appendAuth(b []byte, user, password string) []byte {
	b = appendAll(b, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>")
	b = base64.StdEncoding.AppendEncode(b, []byte("\x00"+user+"\x00"+password))
	return appendAll(b, "</auth>")
}

// appendBind asks for a resource (RFC 6120, section 7).
func appendBind(b []byte) []byte {
	return appendAll(b, "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind></iq>")
}

// appendPresence says that the user is there, and takes messages.
func appendPresence(b []byte) []byte { return appendAll(b, "<presence/>") }

// appendJoin enters a room (XEP-0045), without what was said before.
func appendJoin(b []byte, room, user string) []byte {
	return appendAll(b, "<presence to='", room, "@", rooms, "/", user,
		"'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>")
}

// appendSubscribe has a user get what is said in a room also while away (MUC
// subscriptions of ejabberd).
func appendSubscribe(b []byte, room, user, id string) []byte {
	return appendAll(b, "<iq type='set' id='", id, "' to='", room, "@", rooms, "'><subscribe xmlns='urn:xmpp:mucsub:0' nick='", user,
		"'><event node='urn:xmpp:mucsub:nodes:messages'/></subscribe></iq>")
}

// appendMessage sends to an address.
func appendMessage(b []byte, name, domain, kind string, body []byte) []byte {
	b = appendAll(b, "<message to='", name, "@", domain, "' type='", kind, "'><body>")
	return append(append(b, body...), "</body></message>"...)
}

// Stream management (XEP-0198): both sides count stanzas and tell how many they
// have handled.

func appendEnable(b []byte) []byte { return appendAll(b, "<enable xmlns='urn:xmpp:sm:3'/>") }

func appendAsk(b []byte) []byte { return appendAll(b, "<r xmlns='urn:xmpp:sm:3'/>") }

func appendHandled(b []byte, n uint32) []byte {
	b = strconv.AppendUint(appendAll(b, "<a xmlns='urn:xmpp:sm:3' h='"), uint64(n), 10)
	return append(b, "'/>"...)
}
