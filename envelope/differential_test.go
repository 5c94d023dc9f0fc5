package envelope

import (
	"bytes"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// agree fails unless the parser says of a frame what the oracle says of it.
func agree(t *testing.T, frame []byte) {
	t.Helper()
	for _, from := range []Origin{FromClient, FromLegacyClient, FromServer} {
		given := bytes.Clone(frame)
		got, err := (&Parser{From: from}).Parse(given)
		if !bytes.Equal(given, frame) {
			t.Fatalf("%q: the frame was changed", frame)
		}
		alone, aloneErr := (&Parser{From: from}).ParseNew(given)
		if !reflect.DeepEqual(*alone, got) || !reflect.DeepEqual(aloneErr, err) {
			t.Fatalf("%q from %d\ngot %+v, %v\nand %+v, %v", frame, from, got, err, *alone, aloneErr)
		}
		clear(given) // what is got is not in it
		want, wantErr := (&oracle{From: from}).Parse(frame)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q from %d\ngot  %+v\nwant %+v", frame, from, got, want)
		}
		if (err == nil) != (wantErr == nil) || errors.Is(err, ErrControl) != errors.Is(wantErr, ErrControl) || CodeOf(err) != CodeOf(wantErr) {
			t.Fatalf("%q from %d\ngot  %v\nwant %v", frame, from, err, wantErr)
		}
		if err == nil || errors.Is(err, ErrControl) {
			continue
		}
		// Of several things that are wrong with a frame that is no JSON, any may be said.
		if said, want := AsError(err).Detail, AsError(wantErr).Detail; said != want && jsontext.Value(frame).IsValid() {
			t.Fatalf("%q from %d\ngot  %s\nwant %s", frame, from, said, want)
		}
	}
}

// values are JSON, and what only looks like it.
var values = []string{
	`0`, `-0`, `1`, `10`, `-1`, `01`, `-`, `+1`, `.5`, `1.`, `1.5`, `1e`, `1e5`, `1E+5`, `1e-05`, `1e+`, `1.e5`, `--1`, `0x1`, `1_0`, `1e999`,
	`9007199254740992`, `9007199254740993`, `18446744073709551616`, `Infinity`, `NaN`,
	`true`, `false`, `null`, `tru`, `truex`, `True`, `nul`, `nulll`, ``, ` `, "\x00", `'a'`, `a`,
	`""`, `"`, `"\"`, `"a`, `"\\"`, `"\/\b\f\n\r\t"`, `"\a"`, `"\u"`, `"\u00"`, `"\u00e9"`, `"\u00E9"`, `"\u00g0"`, `"\u+0e9"`, `"\U00e9"`,
	`"\ud83d\ude00"`, `"\uD83D\uDE00"`, `"\ud83d"`, `"\ude00"`, `"\ud83d\ud83d"`, `"\ud83dx"`, `"\ud83d\n"`, `"\ud83d\u0041"`, `"\ud83d\u"`, `"\ufffd"`, `"\uffff"`, `"\u0000"`,
	"\"\x1f\"", "\"\x20\"", "\"\x7f\"", "\"\n\"", "\"\x00\"", "\"\x80\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xff\"", "\"\xe2\x82\"", `"é"`, `"😀"`, "\"\uffff\"", "\"\u2028\"", "\"\ufeff\"",
	`[]`, `[ ]`, `[1]`, `[1,]`, `[,1]`, `[1 2]`, `[1,2`, `[`, `]`, `[1}`, `[[],[[]]]`,
	`{}`, `{ }`, `{"a":1}`, `{"a":1,}`, `{,"a":1}`, `{"a"}`, `{"a":}`, `{"a" 1}`, `{"a":1 "b":2}`, `{a:1}`, `{1:1}`, `{"a":1]`, `{"a":1,"b":{"a":1}}`,
	`{"a":1,"a":1}`, `{"a":1,"\u0061":1}`, `{"\u0061":1,"a":1}`, `{"":1,"":2}`, `{"":1}`, `{"a\u0000":1,"a":2}`, `{"é":1,"\u00e9":1}`, `{"\ud83d\ude00":1,"😀":1}`, `{"\ud800":1}`, "{\"\xff\":1}",
	`/**/1`, "\ufeff1", "1\ufeff",
	`"bob"`, `"Durable"`, `"durable"`, `"volatile"`, `"latest"`, `"r~zorro"`, `"~"`, `"r~"`, `"r~z~z"`, `"a b"`, `"\u0062ob"`, `"$where"`,
}

// many is an object with n members, of which the last has that name.
func many(n int, last string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n - 1 {
		b.WriteString(`"m` + strings.Repeat("x", i) + `":1,`)
	}
	return b.String() + last + `:1}`
}

// deep is values of that many brackets.
func deep(n int) []string {
	return []string{
		strings.Repeat("[", n) + strings.Repeat("]", n),
		strings.Repeat(`{"":`, n) + "1" + strings.Repeat("}", n),
	}
}

func TestParserAgreesWithTheOracle(t *testing.T) {
	all := append([]string{}, values...)
	for _, n := range []int{2, 15, 16, 17, 18, 40} {
		for _, last := range []string{`"m"`, `"mx"`, `"\u006d"`, `"n"`, `"m` + strings.Repeat("x", n-2) + `"`} {
			all = append(all, many(n, last))
		}
	}
	for _, depth := range []int{30, 31, 32, 33} {
		all = append(all, deep(depth)...)
	}
	for _, depth := range []int{9_998, 9_999, 10_000, 10_001} {
		for _, value := range deep(depth) {
			for _, name := range []string{"payload", "src_id", "dest_id", "control"} {
				agree(t, []byte(`{"id":"1","`+name+`":`+value+`,"dest_client_id":"b"}`))
			}
		}
	}
	names := []string{"payload"}
	odd := []string{"", "src_Id", "ſrc_id", "\u212aey", "\u212aeys", "a\\u0062", "an_unreserved_name_of_some_length_that_is_not_short"}
	for name := range oracleFields {
		names = append(names, name)
		odd = append(odd, name, strings.ToUpper(name), strings.Replace(name, "_", `\u005f`, 1), name+"s", name[1:])
	}
	for _, value := range all {
		agree(t, []byte(value))
		for _, name := range names {
			agree(t, []byte(" { \"id\" : \"1\" ,\t\""+name+"\"\r\n: "+value+" , \"dest_id\":\"bob\"\n} "))
			agree(t, []byte(`{"x":`+value+`,"dest_session_id":"r","`+name+`":`+value+`}`))
		}
	}
	for _, name := range odd {
		for _, other := range odd {
			agree(t, []byte(`{"`+name+`":1,"dest_client_id":"al","`+other+`":"k"}`))
		}
	}
}

// Bytes that mean something, at each place of a word of eight and of the text's end.
func TestParserAgreesWithTheOracleAboutEachByte(t *testing.T) {
	for c := range 256 {
		for at := range 10 {
			for _, after := range []int{0, 1, 7, 8} {
				text := strings.Repeat("x", at) + string([]byte{byte(c)}) + strings.Repeat("y", after)
				agree(t, []byte(`{"dest_id":"b","payload":"`+text+`"}`))
				agree(t, []byte(`{"dest_id":"b","payload":"`+text))
			}
		}
	}
}

func TestParseValueAgreesWithTheOracle(t *testing.T) {
	for _, value := range values {
		agreeValue(t, []byte(value))
		agreeValue(t, []byte(" "+value+"\n"))
		agreeValue(t, []byte(value+value))
	}
}

func agreeValue(t *testing.T, text []byte) {
	t.Helper()
	got, err := ParseValue(text)
	want, wantErr := oracleValue(text)
	if CodeOf(err) != CodeOf(wantErr) || !bytes.Equal(got, want) {
		t.Fatalf("%q\ngot  %s, %v\nwant %s, %v", text, got, err, want, wantErr)
	}
}

func FuzzParserAgreesWithTheOracle(f *testing.F) {
	f.Add(sample)
	for _, value := range values {
		f.Add([]byte(`{"id":"1","dest_id":"b","class":"volatile","type":-1,"src_id":` + value + `,"payload":` + value + `}`))
	}
	f.Add([]byte(`{"dest_session_id":"r","class":"latest","key":"k","ttl":9,"receipt":true,"x":` + many(20, `"m"`) + `}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		agree(t, frame)
		agreeValue(t, frame)
	})
}

func FuzzControlAgreesWithTheOracle(f *testing.F) {
	for _, frame := range controls {
		f.Add([]byte(frame), "detail", "epoch", uint64(1), int64(1))
	}
	f.Add([]byte(`{"control":"x"}`), "a \"b\" \\ \x00\x1f\x7f <&> \xff \u2028 é😀", "\xed\xa0\x80", uint64(1<<63), int64(-1))
	f.Fuzz(func(t *testing.T, frame []byte, detail, epoch string, seq uint64, ms int64) {
		c, err := ParseControl(frame)
		if err != nil {
			return
		}
		if c.Payload != nil { // the writer leaves white space as it is
			_ = c.Payload.Compact()
		}
		agreeControl(t, c)
		c.Detail, c.Epoch, c.Seq, c.RetryMS = detail, epoch, seq, ms
		agreeControl(t, c)
		c = Control{Control: detail, ID: epoch, Nodes: []string{epoch, detail}, Presence: []Presence{{ClientID(detail), ms > 0, ms}, {}}, Heads: map[string]uint64{"a": seq}}
		agreeControl(t, c)
	})
}

// Each member is written, also one that has been added to the frame.
func TestControlWritesEachMember(t *testing.T) {
	yes := true
	for i := range reflect.TypeFor[Control]().NumField() {
		var c Control
		switch v := reflect.ValueOf(&c).Elem().Field(i).Addr().Interface().(type) {
		case *string:
			*v = "é"
		case *Code:
			*v = Busy
		case *SessionID:
			*v = "r"
		case *bool:
			*v = true
		case **bool:
			*v = &yes
		case *int:
			*v = 1
		case *int64:
			*v = -1
		case *uint64:
			*v = 1<<64 - 1
		case *map[string]uint64:
			*v = map[string]uint64{"node:a": 1, "client:a": 2}
		case *[]string:
			*v = []string{"a", "b"}
		case *[]ClientID:
			*v = []ClientID{"a", "b"}
		case *[]SessionID:
			*v = []SessionID{"a", "b"}
		case *[]Presence:
			*v = []Presence{{"a", true, 0}, {"b", false, 1}}
		case *jsontext.Value:
			*v = jsontext.Value("1")
		default:
			t.Fatalf("no value for %T", v)
		}
		agreeControl(t, c)
	}
}

// agreeCursors fails if what [ParseCursors] takes is not what it would be else.
func agreeCursors(t *testing.T, frame []byte) (ok bool) {
	t.Helper()
	control, cursors, ok := ParseCursors(frame)
	if !ok {
		return false
	}
	if _, err := new(Parser).Parse(frame); !errors.Is(err, ErrControl) {
		t.Fatalf("%q: %v", frame, err)
	}
	c, err := ParseControl(frame)
	if err != nil {
		t.Fatalf("%q: %v", frame, err)
	}
	want, err := c.CursorMap()
	if err != nil || control != c.Control || len(cursors) != len(want) || !reflect.DeepEqual(ByLog(cursors), want) {
		t.Fatalf("%q\ngot  %s %v\nwant %s %v, %v", frame, control, cursors, c.Control, want, err)
	}
	if said := (Control{Control: c.Control, Cursors: c.Cursors}); !reflect.DeepEqual(c, said) {
		t.Fatalf("%q also says %+v", frame, c)
	}
	return true
}

func TestParseCursors(t *testing.T) {
	for frame, want := range map[string]bool{
		`{"control":"ack","cursors":{"node:a":1}}`:                                                         true,
		`{"control":"read","cursors":{"node:a":1,"session:r":9007199254740992,"client:c":0,"node:r~z":2}}`: true,
		"{\"control\":\"ack\"  ,\t\"cursors\" : { \"node:a\" : 1 } }\n":                                    true,
		`{"control":"ack","cursors":{}}`:                                                                   true,

		`{"control":"ack"}`: false, `{"control":"ack",}`: false, `{"control":"ack","cursors":null}`: false, `{"control":"ack","cursors":{"node:a":1}`: false,
		`{"control":"ack","cursors":{"node:a":1}}x`: false, `{"control":"ack","cursors":{"node:a":1},"epoch":"e"}`: false,
		`{"control":"ack","cursors":{"node:a":1},"cursors":{}}`: false, `{"control":"ack","cursors":{"node:a":1},"control":"ack"}`: false,
		`{"control":"hello","cursors":{"node:a":1}}`: false, `{"control":"ack","heads":{"node:a":1}}`: false, `{"control":"ack","Cursors":{"node:a":1}}`: false,
		`{"control":"ack","cursors":{"node:a":1,"node:a":1}}`: false, `{"control":"ack","cursors":{"a":1}}`: false, `{"control":"ack","cursors":[1]}`: false,
		`{"control":"ack","cursors":{"node:a":-1}}`: false, `{"control":"ack","cursors":{"node:a":1.0}}`: false, `{"control":"ack","cursors":{"node:a":01}}`: false,
		`{"control":"ack","cursors":{"node:a":"1"}}`: false, `{"control":"ack","cursors":{"node:a":9007199254740993}}`: false, `{"control":"ack","cursors":{"node:a":1,}}`: false,
		`{"control":"ack`: false, `{"control":"`: false, `{"dest_id":"b"}`: false, ``: false,
	} {
		if got := agreeCursors(t, []byte(frame)); got != want {
			t.Errorf("%s: %v, want %v", frame, got, want)
		}
	}
	for _, n := range []int{maxCursors, maxCursors + 1} {
		var frame strings.Builder
		frame.WriteString(`{"control":"ack","cursors":{`)
		for i := range n {
			frame.WriteString(`"node:` + strconv.Itoa(i) + `":1,`)
		}
		if got := agreeCursors(t, []byte(strings.TrimSuffix(frame.String(), ",")+"}}")); got != (n <= maxCursors) {
			t.Errorf("%d cursors: %v", n, got)
		}
	}
}

func FuzzCursorsAgreeWithControl(f *testing.F) {
	f.Add([]byte(`{"control":"ack","cursors":{"node:a":1,"session:r":2}}`))
	f.Add([]byte(`{"control":"read","cursors":{"\u006eode:a":1}, "cursors":{}}`))
	for _, value := range values {
		f.Add([]byte(`{"control":"ack","cursors":{"client:a":` + value + `}}`))
		f.Add([]byte(`{"control":"ack","cursors":` + value + `}`))
	}
	f.Fuzz(func(t *testing.T, frame []byte) { agreeCursors(t, frame) })
}

func agreeControl(t *testing.T, c Control) {
	t.Helper()
	got, want := c.AppendJSON([]byte("before")), oracleControl([]byte("before"), &c)
	if !bytes.Equal(got, want) {
		t.Fatalf("%+v\ngot  %s\nwant %s", c, got, want)
	}
}

// controls are control frames of both sides.
var controls = []string{
	`{"control":""}`,
	`{"control":"hello","cursors":{"client:c":1,"node:a.b":9007199254740992},"epoch":"e","resume":false,"topics":["topic:a"]}`,
	`{"control":"hello","heads":{"session:r":9,"node:bob":7,"client:z":0,"node:a":1,"node:b":2,"node:c":3,"node:d":4,"node:e":5,"node:f":6,"é":1,"\"":2},"epoch":"e","node_id":"a","window":256,"ping_s":25,"resume":true}`,
	`{"control":"caught_up","heads":{"node:bob":7}}`,
	`{"control":"ack","id":"1","seq":3,"log":"session:s","offline":true}`,
	`{"control":"nack","id":"1","code":"busy","retry_ms":100,"detail":"x"}`,
	`{"control":"gap","log":"node:a","floor":3}`,
	`{"control":"header","log":"session:r","seq":9,"node_id":"r~zorro","payload":{"a":[1,"é"]}}`,
	`{"control":"receipt","id":"1","seq":7,"log":"node:bob","node_id":"bob","client_id":"bo","state":"read"}`,
	`{"control":"presence","clients":["al","bo"],"session_id":"r","subscribe":true}`,
	`{"control":"presence","clients":[],"subscribe":false,"presence":[{"client_id":"al","online":true},{"client_id":"bo","online":false,"last_seen":5}]}`,
	`{"control":"subscribe","id":"1","cursors":{"session:topic:a":0},"epoch":"e","topics":["topic:a","topic:b"]}`,
	`{"control":"reconnect","after_ms":10,"nodes":["http://a","http://b/?a=b&c=<d>"]}`,
}
