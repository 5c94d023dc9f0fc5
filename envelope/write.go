package envelope

import (
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"
)

// ControlWriter writes a control frame member by member behind what is in a
// buffer, without reflection and, while there is room, without allocating. It
// leaves out members that are zero or empty. The names are those of [Control].
type ControlWriter struct{ buf []byte }

// NewControl begins a frame behind dst.
func NewControl(dst []byte, control string) ControlWriter {
	return ControlWriter{append(appendQuoted(append(dst, `{"control":`...), control), ',')}
}

// End ends the frame and returns the buffer.
func (w *ControlWriter) End() []byte { return closeObject(w.buf) }

// ID writes a string that needs no escaping, as no id does (see [ValidNode]).
func (w *ControlWriter) ID(name, id string) { w.buf = appendStringMember(w.buf, name, id) }

// Text writes any string. Bytes of it that are not UTF-8 become U+FFFD.
func (w *ControlWriter) Text(name, s string) {
	if s != "" {
		w.buf = append(appendQuoted(appendName(w.buf, name), s), ',')
	}
}

// Number writes a whole number.
func (w *ControlWriter) Number(name string, n int64) {
	if n != 0 {
		w.buf = appendIntMember(w.buf, name, n)
	}
}

// Seq writes a position in a log.
func (w *ControlWriter) Seq(name string, n uint64) {
	if n != 0 {
		w.buf = append(strconv.AppendUint(appendName(w.buf, name), n, 10), ',')
	}
}

// Bool writes that something is true.
func (w *ControlWriter) Bool(name string, is bool) {
	if is {
		w.buf = append(appendName(w.buf, name), "true,"...)
	}
}

// Choice writes what was chosen, if anything was.
func (w *ControlWriter) Choice(name string, is *bool) {
	if is != nil && !*is {
		w.buf = append(appendName(w.buf, name), "false,"...)
	}
	w.Bool(name, is != nil && *is)
}

// Log writes an address in text form.
func (w *ControlWriter) Log(name string, a Address) {
	if !a.IsZero() {
		w.buf = append(a.appendQuoted(appendName(w.buf, name)), ',')
	}
}

func (a Address) appendQuoted(dst []byte) []byte {
	dst = append(append(append(dst, '"'), a.Kind.String()...), ':')
	return append(append(dst, a.ID...), '"')
}

// Positions writes positions in logs, in the order of the logs' text forms.
func (w *ControlWriter) Positions(name string, of map[Address]uint64) {
	w.buf = appendPositions(w.buf, name, of, Address.Compare, Address.appendQuoted)
}

func appendPositions[K comparable](dst []byte, name string, of map[K]uint64, compare func(a, b K) int, appendKey func(k K, dst []byte) []byte) []byte {
	if len(of) == 0 {
		return dst
	}
	var few [8]K // more of them are allocated
	keys := few[:0]
	for k := range of {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compare)
	dst = append(appendName(dst, name), '{')
	for _, k := range keys {
		dst = append(appendKey(k, dst), ':')
		dst = append(strconv.AppendUint(dst, of[k], 10), ',')
	}
	return append(closeObject(dst), ',')
}

// Topics writes ids of topics.
func (w *ControlWriter) Topics(ids []SessionID) { w.buf = appendTexts(w.buf, "topics", ids) }

// Nodes writes URLs of servers.
func (w *ControlWriter) Nodes(urls []string) { w.buf = appendTexts(w.buf, "nodes", urls) }

func appendTexts[S ~string](dst []byte, name string, texts []S) []byte {
	if len(texts) == 0 {
		return dst
	}
	dst = append(appendName(dst, name), '[')
	for _, s := range texts {
		dst = append(appendQuoted(dst, string(s)), ',')
	}
	return append(closeArray(dst), ',')
}

// Presence writes who is connected.
func (w *ControlWriter) Presence(of []Presence) {
	if len(of) == 0 {
		return
	}
	w.buf = append(appendName(w.buf, "presence"), '[')
	for _, p := range of {
		w.buf = appendQuoted(append(w.buf, `{"client_id":`...), string(p.Client))
		w.buf = append(strconv.AppendBool(append(w.buf, `,"online":`...), p.Online), ',')
		w.Number("last_seen", p.LastSeen)
		w.buf = append(closeObject(w.buf), ',')
	}
	w.buf = append(closeArray(w.buf), ',')
}

// Payload writes a JSON value byte for byte.
func (w *ControlWriter) Payload(value []byte) {
	if len(value) > 0 {
		w.buf = append(append(appendName(w.buf, "payload"), value...), ',')
	}
}

// AppendJSON appends the frame to dst.
func (c *Control) AppendJSON(dst []byte) []byte {
	w := NewControl(dst, c.Control)
	w.Text("id", c.ID)
	w.Seq("seq", c.Seq)
	w.Text("log", c.Log)
	w.buf = appendPositions(w.buf, "cursors", c.Cursors, strings.Compare, appendKey)
	w.buf = appendPositions(w.buf, "heads", c.Heads, strings.Compare, appendKey)
	w.Text("epoch", c.Epoch)
	w.Choice("resume", c.Resume)
	w.Text("node_id", c.NodeID)
	w.Text("client_id", c.Client)
	w.Text("state", c.State)
	w.Bool("offline", c.Offline)
	w.Number("window", int64(c.Window))
	w.Number("ping_s", int64(c.PingS))
	w.Text("code", string(c.Code))
	w.Number("retry_ms", c.RetryMS)
	w.Text("detail", c.Detail)
	w.Seq("floor", c.Floor)
	w.Number("after_ms", c.AfterMS)
	w.Nodes(c.Nodes)
	w.buf = appendTexts(w.buf, "clients", c.Clients)
	w.Text("session_id", string(c.Session))
	w.Choice("subscribe", c.Subscribe)
	w.Presence(c.Presence)
	w.Topics(c.Topics)
	w.Payload(c.Payload)
	w.Number("at", c.At)
	w.Number("expires", c.Expires)
	w.Text("auth_key", c.AuthKey)
	return w.End()
}

func appendKey(s string, dst []byte) []byte { return appendQuoted(dst, s) }

// appendQuoted appends s as a JSON string.
func appendQuoted(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			// AppendQuote reports bad UTF-8 and has replaced it by then. It would
			// copy a string.
			dst, _ = jsontext.AppendQuote(dst, unsafe.Slice(unsafe.StringData(s), len(s)))
			return dst
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}
