package envelope

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestParse(t *testing.T) {
	deep := strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)
	notTooDeep := strings.Repeat("[", MaxDepth-1) + strings.Repeat("]", MaxDepth-1)
	for _, tt := range []struct {
		name, in string
		from     Origin
		want     string // what the receiver gets, with src and time as stamped by nobody
		code     Code
	}{
		{name: "device", in: `{"dest_id":"bob","payload":"hi"}`, want: `{"dest_id":"bob","payload":"hi"}`},
		{name: "all fields", in: `{"id":"1","dest_client_id":"b","type":7,"class":"volatile","ttl":5,"receipt":true,"payload":{"a":[1,2]},"x":null}`, want: `{"id":"1","dest_client_id":"b","type":7,"payload":{"a":[1,2]},"x":null}`},
		{name: "payload bytes untouched", in: `{"dest_id":"b","payload": { "n" : 1e999, "$where":"x", "é":"\u00e9" } }`, want: `{"dest_id":"b","payload":{ "n" : 1e999, "$where":"x", "é":"\u00e9" }}`},
		{name: "no body", in: ` {"dest_session_id":"s"} `, want: `{"dest_session_id":"s"}`},
		{name: "private in session", in: `{"dest_id":"b","dest_session_id":"s"}`, want: `{"dest_id":"b","dest_session_id":"s"}`},
		{name: "forged source ignored", in: `{"dest_id":"b","src_id":"eve","src_client_id":"eve","timestamp":1,"anonymize_src_id":true}`, want: `{"dest_id":"b"}`},
		{name: "escaped reserved name is the reserved name", in: `{"dest_id":"b","src\u005fid":"eve"}`, want: `{"dest_id":"b"}`},
		{name: "deep enough", in: `{"dest_id":"b","payload":` + notTooDeep + `}`, want: `{"dest_id":"b","payload":` + notTooDeep + `}`},
		{name: "braces in strings are not nesting", in: `{"dest_id":"b","payload":"` + strings.Repeat(`[\"`, 100) + `"}`, want: `{"dest_id":"b","payload":"` + strings.Repeat(`[\"`, 100) + `"}`},
		{name: "legacy volatile", from: FromLegacyClient, in: `{"dest_id":"b","type":-7}`, want: `{"dest_id":"b","type":-7}`},
		{name: "legacy config", from: FromLegacyClient, in: `{"type":-101}`, want: `{"type":-101}`},
		{name: "from server", from: FromServer, in: `{"id":"1","dest_id":"b","src_id":"a","src_client_id":"ac","timestamp":5,"type":100,"seq":9,"payload":1}`, want: `{"id":"1","dest_id":"b","src_id":"a","src_client_id":"ac","timestamp":5,"type":100,"seq":9,"payload":1}`},

		{name: "edit", in: `{"id":"2","dest_id":"b","edits":7,"payload":"new"}`, want: `{"id":"2","dest_id":"b","edits":7,"payload":"new"}`},
		{name: "deletion", in: `{"id":"2","dest_id":"b","deletes":9007199254740992}`, want: `{"id":"2","dest_id":"b","deletes":9007199254740992}`},
		{name: "legacy edit", from: FromLegacyClient, in: `{"id":"2","dest_id":"b","type":5,"edits":1}`, want: `{"id":"2","dest_id":"b","type":5,"edits":1}`},
		{name: "edited, from server", from: FromServer, in: `{"dest_id":"b","seq":7,"edited":{"seq":9,"timestamp":5},"payload":"new"}`, want: `{"dest_id":"b","seq":7,"edited":{"seq":9,"timestamp":5},"payload":"new"}`},
		{name: "deleted, from server", from: FromServer, in: `{"dest_id":"b","seq":7,"deleted":true}`, want: `{"dest_id":"b","seq":7,"deleted":true}`},

		{name: "empty", in: ``, code: BadRequest},
		{name: "array", in: `[]`, code: BadRequest},
		{name: "string", in: `"x"`, code: BadRequest},
		{name: "truncated", in: `{"dest_id":"b"`, code: BadRequest},
		{name: "two values", in: `{"dest_id":"b"}{}`, code: BadRequest},
		{name: "trailing", in: `{"dest_id":"b"}x`, code: BadRequest},
		{name: "no destination", in: `{"payload":1}`, code: BadRequest},
		{name: "two destinations", in: `{"dest_id":"b","dest_client_id":"c"}`, code: BadRequest},
		{name: "client and session", in: `{"dest_session_id":"b","dest_client_id":"c"}`, code: BadRequest},
		{name: "other case", in: `{"DEST_ID":"b"}`, code: BadRequest},
		{name: "long s", in: `{"dest_id":"b","ſrc_id":"eve"}`, code: BadRequest},
		{name: "kelvin sign", in: `{"dest_id":"b","class":"latest","Key":"k"}`, code: BadRequest},
		{name: "duplicate", in: `{"dest_id":"b","dest_id":"c"}`, code: BadRequest},
		{name: "duplicate by escape", in: `{"dest_id":"b","dest\u005fid":"c"}`, code: BadRequest},
		{name: "duplicate inside", in: `{"dest_id":"b","payload":{"a":1,"a":2}}`, code: BadRequest},
		{name: "lone surrogate in id", in: `{"dest_id":"\ud800"}`, code: BadRequest},
		{name: "lone surrogate in payload", in: `{"dest_id":"b","payload":"\ud800"}`, code: BadRequest},
		{name: "bad UTF-8 in id", in: "{\"dest_id\":\"\xff\"}", code: BadRequest},
		{name: "bad UTF-8 in payload", in: "{\"dest_id\":\"b\",\"payload\":\"\xff\"}", code: BadRequest},
		{name: "NUL in id", in: `{"dest_id":"b\u0000"}`, code: BadRequest},
		{name: "raw NUL", in: "{\"dest_id\":\"b\x00\"}", code: BadRequest},
		{name: "id object", in: `{"dest_id":{"$ne":null}}`, code: BadRequest},
		{name: "id with dollar", in: `{"dest_id":"$where"}`, code: BadRequest},
		{name: "empty id", in: `{"dest_id":""}`, code: BadRequest},
		{name: "long id", in: `{"dest_id":"` + strings.Repeat("a", MaxIDLen+1) + `"}`, code: BadRequest},
		{name: "too deep", in: `{"dest_id":"b","payload":` + deep + `}`, code: BadRequest},
		{name: "very deep", in: `{"dest_id":"b","payload":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`, code: BadRequest},
		{name: "very deep where it is ignored", in: `{"dest_id":"b","src_id":` + deep + `}`, code: BadRequest},
		{name: "very deep and no end", in: `{"id":` + strings.Repeat(`{"":`, 100_000), code: BadRequest},
		{name: "huge type", in: `{"dest_id":"b","type":1e999}`, code: BadRequest},
		{name: "type over 64 bits", in: `{"dest_id":"b","type":18446744073709551616}`, code: BadRequest},
		{name: "fractional type", in: `{"dest_id":"b","type":1.5}`, code: BadRequest},
		{name: "joined", in: `{"dest_id":"b","type":100}`, code: BadRequest},
		{name: "left", in: `{"dest_id":"b","type":103}`, code: BadRequest},
		{name: "legacy revealed", from: FromLegacyClient, in: `{"dest_id":"b","type":104}`, code: BadRequest},
		{name: "legacy offline", from: FromLegacyClient, in: `{"dest_id":"b","type":-4}`, code: BadRequest},
		{name: "legacy reply", from: FromLegacyClient, in: `{"dest_id":"b","type":-102}`, code: BadRequest},
		{name: "config outside legacy", in: `{"dest_id":"b","type":-101}`, code: BadRequest},
		{name: "negative type", in: `{"dest_id":"b","type":-1}`, code: BadRequest},
		{name: "seq", in: `{"dest_id":"b","seq":1}`, code: BadRequest},
		{name: "class", in: `{"dest_id":"b","class":"Durable"}`, code: BadRequest},
		{name: "latest without key", in: `{"dest_id":"b","class":"latest"}`, code: BadRequest},
		{name: "key without latest", in: `{"dest_id":"b","key":"k"}`, code: BadRequest},
		{name: "ttl zero", in: `{"dest_id":"b","ttl":0}`, code: BadRequest},
		{name: "receipt", in: `{"dest_id":"b","receipt":1}`, code: BadRequest},
		{name: "edits and deletes", in: `{"id":"1","dest_id":"b","edits":1,"deletes":1}`, code: BadRequest},
		{name: "edits and deletes, from server", from: FromServer, in: `{"id":"1","dest_id":"b","edits":1,"deletes":1}`, code: BadRequest},
		{name: "edits nothing", in: `{"id":"1","dest_id":"b","edits":0}`, code: BadRequest},
		{name: "deletes below nothing", in: `{"id":"1","dest_id":"b","deletes":-1}`, code: BadRequest},
		{name: "edits too far", in: `{"id":"1","dest_id":"b","edits":9007199254740993}`, code: BadRequest},
		{name: "edits a text", in: `{"id":"1","dest_id":"b","edits":"1"}`, code: BadRequest},
		{name: "edits true", in: `{"id":"1","dest_id":"b","edits":true}`, code: BadRequest},
		{name: "edits a fraction", in: `{"id":"1","dest_id":"b","edits":1.0}`, code: BadRequest},
		{name: "deletes twice", in: `{"id":"1","dest_id":"b","deletes":1,"deletes":2}`, code: BadRequest},
		{name: "deletes, other case", in: `{"id":"1","dest_id":"b","Deletes":1}`, code: BadRequest},
		{name: "edits without id", in: `{"dest_id":"b","edits":1}`, code: BadRequest},
		{name: "deletes for a while", in: `{"id":"1","dest_id":"b","deletes":1,"ttl":5}`, code: BadRequest},
		{name: "deletes and says", in: `{"id":"1","dest_id":"b","deletes":1,"payload":"x"}`, code: BadRequest},
		{name: "volatile edit", in: `{"id":"1","dest_id":"b","edits":1,"class":"volatile"}`, code: BadRequest},
		{name: "latest edit", in: `{"id":"1","dest_id":"b","edits":1,"class":"latest","key":"k"}`, code: BadRequest},
		{name: "legacy volatile edit", from: FromLegacyClient, in: `{"id":"1","dest_id":"b","type":0,"edits":1}`, code: BadRequest},
		{name: "edited", in: `{"dest_id":"b","edited":{"seq":1}}`, code: BadRequest},
		{name: "deleted", in: `{"dest_id":"b","deleted":true}`, code: BadRequest},
		{name: "edited, other case", from: FromServer, in: `{"dest_id":"b","Edited":1}`, code: BadRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := Parser{From: tt.from}
			e, err := p.Parse([]byte(tt.in))
			if CodeOf(err) != tt.code {
				t.Fatalf("code %q, want %q (%v)", CodeOf(err), tt.code, err)
			}
			if err != nil {
				return
			}
			if got := string(e.AppendJSON(nil)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestParseKeepsTheIDOfARefusedFrame(t *testing.T) {
	var p Parser
	e, err := p.Parse([]byte(`{"id":"7","dest_id":"b","seq":1}`))
	if CodeOf(err) != BadRequest || e.ID != "7" {
		t.Errorf("id %q, error %v", e.ID, err)
	}
}

func TestParseControlFrame(t *testing.T) {
	var p Parser
	if _, err := p.Parse([]byte(`{"control":"ack","cursors":{}}`)); !errors.Is(err, ErrControl) {
		t.Errorf("got %v", err)
	}
	for _, bad := range []string{
		`{"control":"ack","dest_id":"b"}`, `{"control":"ack","control":"hello"}`, `{"Control":"ack"} `, `{"control":1}`, `nul`,
		`{"control":"ack","cursors":{"node:a":1,"node:a":2}}`, `{"control":"ack","cursors":{"node:a":-1}}`,
	} {
		if c, err := ParseControl([]byte(bad)); err == nil {
			t.Errorf("%s: accepted as %+v", bad, c)
		}
	}
	for _, bad := range []string{"a", "node:", "node:a b", "user:a", ":a"} {
		c := Control{Cursors: map[string]uint64{bad: 1}}
		if _, err := c.CursorMap(); CodeOf(err) != BadRequest {
			t.Errorf("cursor %q: %v", bad, err)
		}
	}
}

func TestControlRoundTrip(t *testing.T) {
	no := false
	for _, want := range []string{
		`{"control":"hello","cursors":{"client:c":1,"node:a.b":9007199254740992},"epoch":"e","resume":false}`,
		`{"control":"ack","id":"1","seq":3,"log":"session:s"}`,
		`{"control":"nack","id":"1","code":"busy","retry_ms":100,"detail":"x"}`,
		`{"control":"reconnect","after_ms":10,"nodes":["http://a"]}`,
		`{"control":"subscribe","id":"1","cursors":{"session:topic:a":0},"epoch":"e","topics":["topic:a","topic:b"]}`,
	} {
		c, err := ParseControl([]byte(want))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(c.AppendJSON(nil)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if got := string((&Control{Control: ControlHello, Resume: &no}).AppendJSON(nil)); got != `{"control":"hello","resume":false}` {
		t.Error(got)
	}
}

func TestCheckTopics(t *testing.T) {
	most := make([]SessionID, MaxTopics)
	for i := range most {
		most[i] = "topic:a"
	}
	for _, good := range [][]SessionID{nil, {"topic:a"}, {"topic:a", "topic:b.c-d:e@f_g"}, most} {
		if err := CheckTopics(good); err != nil {
			t.Errorf("%d topics: %v", len(good), err)
		}
	}
	for _, bad := range [][]SessionID{{""}, {"a"}, {"topic"}, {"TOPIC:a"}, {"topic:a", "topic:ä"}, {"topic:a~b"}, append(most, "topic:b")} {
		if err := CheckTopics(bad); CodeOf(err) != BadRequest {
			t.Errorf("%d topics, %q: %v", len(bad), bad[len(bad)-1], err)
		}
	}
}

func TestRequestRoundTrip(t *testing.T) {
	e := Envelope{ID: "1", DestNode: "b", SrcNode: "forged", Type: 3, HasType: true, Class: Latest, Key: "k", TTL: 9, Receipt: true}
	e.SetPayload("h\"i\xff")
	var p Parser
	got, err := p.Parse(e.AppendRequest(nil))
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest() != e.Digest() {
		t.Errorf("%+v", got)
	}
	if v, ok := got.Member("payload"); !ok || string(v) != `"h\"i`+"\ufffd"+`"` {
		t.Errorf("payload %s", v)
	}
	if _, ok := got.Member("payload1"); ok {
		t.Error("a member that is not there")
	}
}

func TestBinaryRoundTrip(t *testing.T) {
	for _, with := range []Envelope{{}, {Edits: 1 << 40}, {Deletes: 7}, {ShownFrom: 1 << 40}, {Edits: 3, ShownFrom: 4, ForMaster: true}} {
		binaryRoundTrip(t, with)
	}
}

func binaryRoundTrip(t *testing.T, with Envelope) {
	t.Helper()
	e := Envelope{
		ID: "1", DestNode: "b", DestClient: "c", DestSession: "s", SrcNode: "n", SrcClient: "sc",
		Timestamp: 1 << 40, Seq: 1 << 50, Type: -101, HasType: true, Class: Latest, Key: "k", TTL: 9, Receipt: true,
		Edits: with.Edits, Deletes: with.Deletes, ShownFrom: with.ShownFrom, ForMaster: with.ForMaster,
		Body: []byte(`"payload":1`),
	}
	b := e.AppendBinary(nil)
	got, rest, err := ParseBinary(append(b, "rest"...))
	if err != nil || got.ShownFrom != e.ShownFrom || got.ForMaster != e.ForMaster || got.Revises() != e.Revises() || string(rest) != "rest" || !bytes.Equal(got.AppendBinary(nil), b) {
		t.Fatalf("%+v %q %v", got, rest, err)
	}
	for i := range b {
		if _, _, err := ParseBinary(b[:i]); err == nil {
			t.Errorf("%d of %d bytes accepted", i, len(b))
		}
	}
}

func TestDigest(t *testing.T) {
	a := Envelope{ID: "1", DestNode: "b", Body: []byte(`"payload":1`)}
	stamped := a
	stamped.SrcNode, stamped.Timestamp, stamped.Seq, stamped.ShownFrom = "x", 5, 9, 3
	if a.Digest() != stamped.Digest() {
		t.Error("the server's fields count")
	}
	other := a
	other.Body = []byte(`"payload":2`)
	if a.Digest() == other.Digest() {
		t.Error("the body does not count")
	}
	edit, deletion := a, a
	edit.Edits, deletion.Deletes = 3, 3
	if edit.Digest() == deletion.Digest() || edit.Digest() == a.Digest() || deletion.Digest() == a.Digest() {
		t.Error("what it revises does not count")
	}
}

var sample = []byte(`{"id":"0123456789abcdef","dest_id":"bob-phone","type":1,"payload":"` + strings.Repeat("x", 130) + `"}`)

func BenchmarkParse(b *testing.B) {
	var p Parser
	b.ReportAllocs()
	b.SetBytes(int64(len(sample)))
	for b.Loop() {
		if _, err := p.Parse(sample); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOracle is what [BenchmarkParse] would be with a library's decoder.
func BenchmarkOracle(b *testing.B) {
	var p oracle
	b.ReportAllocs()
	b.SetBytes(int64(len(sample)))
	for b.Loop() {
		if _, err := p.Parse(sample); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	var p Parser
	e, err := p.Parse(sample)
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = e.AppendJSON(buf[:0])
	}
}

func BenchmarkBinary(b *testing.B) {
	var p Parser
	e, err := p.Parse(sample)
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = e.AppendBinary(buf[:0])
		if _, _, err := ParseBinary(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDigest(b *testing.B) {
	var p Parser
	e, _ := p.Parse(sample)
	b.ReportAllocs()
	for b.Loop() {
		_ = e.Digest()
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add([]byte(`{"dest_id":"b","payload":{"a":[1,{"b":"\u00e9"}]},"ttl":1,"class":"latest","key":"k"}`))
	f.Add([]byte("{\"dest_session_id\":\"s\",\"x\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		for _, from := range []Origin{FromClient, FromLegacyClient, FromServer} {
			p := Parser{From: from}
			e, err := p.Parse(frame)
			if err != nil {
				continue
			}
			// What we forward, every receiver's library must read the same way.
			again, err := (&Parser{From: FromServer}).Parse(e.AppendJSON(nil))
			if err != nil {
				t.Fatalf("our own frame %s refused: %v", e.AppendJSON(nil), err)
			}
			if !bytes.Equal(again.Body, e.Body) || again.Dest() != e.Dest() {
				t.Fatalf("%+v became %+v", e, again)
			}
			if b, rest, err := ParseBinary(e.AppendBinary(nil)); err != nil || len(rest) != 0 || b.Digest() != e.Digest() {
				t.Fatalf("binary: %v", err)
			}
		}
	})
}

func FuzzParseControl(f *testing.F) {
	f.Add([]byte(`{"control":"hello","cursors":{"node:a":1},"epoch":"e","resume":true}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		c, err := ParseControl(frame)
		if err != nil {
			return
		}
		if _, err := ParseControl(c.AppendJSON(nil)); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseBinary(f *testing.F) {
	var p Parser
	e, _ := p.Parse(sample)
	f.Add(e.AppendBinary(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, _, err := ParseBinary(b)
		if err != nil {
			return
		}
		if again, _, err := ParseBinary(e.AppendBinary(nil)); err != nil || again.Digest() != e.Digest() {
			t.Fatal(err)
		}
	})
}

// What is no frame may be nested as a frame within an object, and no deeper, also
// where its reader would take anything.
func TestUnmarshalStrictDepth(t *testing.T) {
	for depth, want := range map[int]Code{1: "", MaxDepth + 1: "", MaxDepth + 2: BadRequest, 9_000: BadRequest, 100_000: BadRequest} {
		for _, value := range deep(depth) {
			var v jsontext.Value
			if err := UnmarshalStrict([]byte(value), &v); CodeOf(err) != want {
				t.Errorf("%d deep: %v, want %q", depth, err, want)
			}
		}
	}
	if _, err := ParseControl([]byte(`{"control":"hello","epoch":` + deep(1000)[0] + `}`)); CodeOf(err) != BadRequest || !strings.Contains(err.Error(), "deeper") {
		t.Errorf("control frame: %v", err)
	}
}
