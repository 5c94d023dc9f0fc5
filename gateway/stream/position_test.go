package stream

import (
	"fmt"
	"strings"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
)

func TestPosition(t *testing.T) {
	parser := envelope.Parser{From: envelope.FromServer}
	var p position
	for _, step := range []struct{ frame, control, text string }{
		{`{"control":"hello","node_id":"a","epoch":"E","heads":{"node:bob":9}}`, "hello", "E"},
		{`{"dest_id":"bob","seq":3,"payload":"x"}`, "", "E~nbob~3"},
		{`{"dest_client_id":"bo","seq":12}`, "", "E~nbob~3~cbo~12"},
		{`{"dest_id":"bob","dest_session_id":"r","seq":4}`, "", "E~cbo~12~nbob~4"},
		{`{"dest_session_id":"r","payload":"volatile"}`, "", "E~cbo~12~nbob~4"},
		{`{"control":"gap","log":"session:r","floor":8}`, "gap", "E~cbo~12~nbob~4~sr~7"},
		{`{"control":"gap","log":"node:bob","floor":1}`, "gap", "E~cbo~12~sr~7"},
		{`{"control":"caught_up","heads":{"node:bob":0,"session:r":9,"client:bo":12,"session:q":5}}`, "caught_up", "E~sq~5~cbo~12~sr~9"},
		{`{"control":"ack","id":"1","log":"session:r","seq":11}`, "ack", "E~sq~5~cbo~12~sr~9"},
		{`{"control":"hello","epoch":"E"}`, "hello", "E~sq~5~cbo~12~sr~9"},
		{`{"dest_id":"r~17","dest_session_id":"r","seq":4}`, "", "E~sq~5~cbo~12~sr~9~nr!17~4"},
		{`{"control":"hello","epoch":"F"}`, "hello", "F"},
		{`{"control":"subscribed","topics":["topic:a"],"cursors":{"session:topic:a":0},"heads":{"session:topic:a":3}}`, "subscribed", "F~stopic:a~0"},
		{`{"dest_session_id":"topic:a","seq":1}`, "", "F~stopic:a~1"},
		{`{"control":"gap","log":"session:topic:a","floor":1}`, "gap", "F~stopic:a~0"},
	} {
		control := p.pass([]byte(step.frame), &parser)
		if text := string(p.appendText(nil)); text != step.text || control != step.control || p.size != len(text) {
			t.Fatalf("after %s: %q of %d bytes, control %q; want %q, %q", step.frame, text, p.size, control, step.text, step.control)
		}
	}
}

func TestPositionRefuses(t *testing.T) {
	for _, text := range []string{
		"~", "E~", "E~nbob", "E~nbob~", "E~nbob~0", "E~nbob~03", "E~nbob~+3", "E~nbob~-3", "E~nbob~9007199254740993",
		"E~xbob~3", "E~pbob~3", "E~n~3", "E~nbo b~3", "E~nbob~3~nbob~4", "~nbob~3", "E\n~nbob~3", "E~nbob~3\r",
		"E~nr!~3", "E~n!z~3", "E~nr!z!z~3", "E~sr!z~3", "E~nr~z~3",
		"E~n" + strings.Repeat("x", maxText) + "~1",
	} {
		if p, err := parsePosition(text); envelope.CodeOf(err) != envelope.BadRequest {
			t.Errorf("%q is %+v, %v", text, p, err)
		}
	}
}

// A position never outgrows a header, and keeps the logs that moved last.
func TestPositionIsBounded(t *testing.T) {
	p := position{}
	p.begin("E")
	for i := range 1000 {
		p.set(envelope.SessionID(fmt.Sprintf("session-with-a-long-name-%d", i)).Address(), uint64(i+1))
	}
	heads := p.size
	p.know(envelope.SessionID(strings.Repeat("x", envelope.MaxIDLen)).Address(), 1)
	text := string(p.appendText(nil))
	if len(text) > maxText || p.size != len(text) || p.size != heads || len(p.logs) < 100 {
		t.Fatalf("%d logs in %d bytes, said to be %d", len(p.logs), len(text), p.size)
	}
	if last := p.logs[len(p.logs)-1]; last.seq != 1000 {
		t.Errorf("the log that moved last is %+v", last)
	}
	if again, err := parsePosition(text); err != nil || len(again.logs) != len(p.logs) {
		t.Errorf("read again: %d logs, %v", len(again.logs), err)
	}
}

func FuzzPosition(f *testing.F) {
	for _, text := range []string{"", "E", "E~nbob~3", "5W2KQ~nbob-phone~17~sroom~4", "E~cal~9007199254740991", "E~nbob~3~nbob~3", "E~nroom!zorro~3~nbob~3", "E~stopic:a~0"} {
		f.Add(text)
	}
	parser := envelope.Parser{From: envelope.FromServer}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePosition(text)
		if err != nil {
			if envelope.CodeOf(err) != envelope.BadRequest {
				t.Fatal(err)
			}
			return
		}
		if again := string(p.appendText(nil)); again != text || p.size != len(text) {
			t.Fatalf("%q became %q of %d bytes", text, again, p.size)
		}
		// The codec takes the frame, and the frames of a server move it on.
		if c, err := envelope.ParseControl(p.hello()); err != nil || len(c.Cursors) != len(p.logs) {
			t.Fatalf("%s: %v", p.hello(), err)
		}
		p.pass([]byte(`{"dest_id":"bob","seq":3}`), &parser)
		if q, err := parsePosition(string(p.appendText(nil))); p.epoch != "" && (err != nil || q.size != p.size) {
			t.Fatalf("%q, %v", p.appendText(nil), err)
		}
	})
}
