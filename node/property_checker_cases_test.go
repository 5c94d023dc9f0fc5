package node

import (
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// A history told in short: at one time, by one device of user u, d, on stream
// 1, in the log of session r, whose first entry lets d in and which s belongs
// to as well.
type tale []event

func begin() tale {
	return tale{
		{what: evOpened, device: "d", user: "u", stream: 1, from: map[envelope.Address]uint64{room("r"): 0}},
		{what: evJoining, device: "d", log: room("r")},
		{what: evJoined, device: "d", log: room("r"), seq: 1},
	}
}

// send says that s sends and is answered with a number.
func (h tale) send(id, text string, seq uint64) tale {
	return append(
		h, event{what: evSent, device: "s", log: room("r"), id: id, text: text},
		event{what: evAcked, device: "s", log: room("r"), id: id, text: text, seq: seq},
	)
}

func (h tale) got(seq uint64, text string) tale {
	return append(h, event{what: evGot, device: "d", stream: 1, log: room("r"), seq: seq, text: text, src: "s"})
}

func (h tale) add(e event) tale { return append(h, e) }

// audit says that the log is now what it was to begin with, and these texts.
func (h tale) audit(texts ...string) tale {
	pages := []entry{{seq: 1, src: "d", text: "+d", kind: envelope.TypeJoined}}
	for i, text := range texts {
		x := entry{seq: uint64(i + 2), src: "s", text: text}
		if text == "-d" {
			x.src, x.kind = "d", envelope.TypeLeft
		}
		pages = append(pages, x)
	}
	return append(h, event{what: evAudited, log: room("r"), pages: pages})
}

func (h tale) settled() tale { return append(h, event{what: evSettled, device: "d", stream: 1}) }

// The checker finds each breach of a promise, and nothing else.
func TestChecker(t *testing.T) {
	later := time.Unix(1000, 0)
	for _, tt := range []struct {
		name string
		h    tale
		want string // how the one fault begins and ends, with … between; "" for none
	}{
		{"all is well", begin().send("1", "x", 2).send("2", "y", 3).got(2, "x").got(3, "y").audit("x", "y").settled(), ""},
		{"no answer, stored", begin().add(event{what: evSent, device: "s", log: room("r"), id: "1", text: "x"}).audit("x"), ""},
		{"no answer, not stored", begin().add(event{what: evSent, device: "s", log: room("r"), id: "1", text: "x"}).audit(), ""},
		{"acknowledged and not stored", begin().send("1", "x", 2).audit(), `1: "x" was acknowledged`},
		{"acknowledged under another's number", begin().send("1", "x", 2).send("2", "y", 2).audit("x", "y"), `1: "y" was acknowledged as session:r 2, where "x"`},
		{"stored and never sent", begin().audit("x"), `1: session:r 2 is "x" of s, which was never sent`},
		{"never answered", begin().audit().add(event{what: evStuck, device: "d", text: "why"}), "1: d: why"},
		{"twice on one stream", begin().send("1", "x", 2).got(2, "x").got(2, "x").audit("x"), "2: d got session:r 2 again"},
		{"in another order", begin().send("1", "x", 2).send("2", "y", 3).send("3", "z", 4).got(2, "x").got(4, "z").got(3, "y").audit("x", "y", "z"), "7: d never got session:r 3…2: d got session:r 3 again"},
		{"a hole in the log", begin().add(event{what: evAudited, log: room("r"), pages: []entry{{seq: 1, src: "d", text: "+d", kind: envelope.TypeJoined}, {seq: 3, src: "d", text: "-d", kind: envelope.TypeLeft}}}), "3: session:r has 3 after 1"},
		{"the beginning is missing", begin().add(event{what: evJoined, device: "x", log: room("q"), seq: 2}).add(event{what: evAudited, log: room("q"), pages: []entry{{seq: 2, src: "x", text: "+x", kind: envelope.TypeJoined}}}).audit(), "3: session:q begins at 2"},
		{"another message under the number", begin().send("1", "x", 2).send("2", "y", 2).audit("x").audit("y"), "3: session:r 2 was…1: \"y\""},
		{"something came below the head", begin().send("1", "x", 2).send("2", "y", 3).add(event{what: evAudited, log: room("r"), pages: []entry{{seq: 1, src: "d", text: "+d", kind: envelope.TypeJoined}, {seq: 3, src: "s", text: "y"}}}).audit("x", "y"), "3: session:r has 3 after 1…3: session:r 2 appeared after 3"},
		{"the end went away", begin().send("1", "x", 2).audit("x").audit(), "3: session:r went up to 2 and now to 1"},
		{"got before it was stored, which failed", begin().got(2, "x").audit(), `3: d got "x" as session:r 2, where nothing is`},
		{"got something else", begin().send("1", "x", 2).got(2, "y").audit("x"), `3: d got "y" of s`},
		{"numbered in another order", begin().send("1", "x", 3).send("2", "y", 2).audit("y", "x"), `4: s sent "x" before "y"`},
		{"stored twice", begin().send("1", "x", 2).audit("x", "x"), `5: session:r has "x" as 2 and as 3`},
		{"acknowledged again under another number", begin().send("1", "x", 2).send("1", "x", 3).audit("x"), `5: x to session:r was acknowledged as 2 and as 3…1: "x" was`},
		{"the same again", begin().send("1", "x", 2).send("1", "x", 2).audit("x"), ""},
		{"something else under the id", begin().send("1", "x", 2).send("1", "y", 2).audit("x"), `5: "y" was acknowledged under the id of "x"…1: "y"`},
		{"no conflict", begin().send("1", "x", 2).audit("x").add(event{what: evRefused, device: "s", log: room("r"), id: "1", text: "x", code: envelope.Conflict}), `5: "x" is said to be in conflict`},
		{"after leaving", begin().send("1", "x", 3).got(3, "x").audit("-d", "x"), "6: d got session:r 3"},
		{"what it said itself", begin().send("1", "x", 2).audit("x").add(event{what: evGot, device: "d", stream: 1, log: room("r"), seq: 1, text: "+d", src: "d"}), "6: d got session:r 1"},
		{"somebody else's", begin().add(event{what: evSent, device: "s", log: user("v"), id: "1", text: "x"}).add(event{what: evAudited, log: user("v"), pages: []entry{{seq: 1, src: "s", text: "x"}}}).add(event{what: evGot, device: "d", stream: 1, log: user("v"), seq: 1, text: "x", src: "s"}).audit(), "6: d got client:v 1"},
		{"a leave that is not in the log", begin().audit().add(event{what: evLeft, device: "d", log: room("r"), seq: 2}), "6: d was told of 2"},
		{"a volatile one after leaving", begin().audit("-d").add(event{what: evLeft, at: time.Unix(1, 0), device: "d", log: room("r"), seq: 2}).add(event{what: evSent, at: later, device: "s", log: room("r"), text: "v"}).add(event{what: evGot, device: "d", stream: 1, log: room("r"), text: "v", src: "s"}), `6: d got the volatile "v"`},
		{"a volatile one", begin().audit().add(event{what: evSent, device: "s", log: room("r"), text: "v"}).add(event{what: evGot, device: "d", stream: 1, log: room("r"), text: "v", src: "s"}), ""},
		{"a volatile one twice", begin().audit().add(event{what: evSent, device: "s", log: room("r"), text: "v"}).add(event{what: evGot, device: "d", stream: 1, log: room("r"), text: "v", src: "s"}).add(event{what: evGot, device: "d", stream: 1, log: room("r"), text: "v", src: "s"}), `2: d got "v" again`},
		{"skipped", begin().send("1", "x", 2).send("2", "y", 3).got(3, "y").audit("x", "y"), `7: d never got session:r 2`},
		{"skipped, expired", begin().add(event{what: evSent, device: "s", log: room("r"), id: "1", text: "x"}).add(event{what: evAudited, log: room("r"), pages: []entry{{seq: 1, src: "d", text: "+d", kind: envelope.TypeJoined}, {seq: 2, src: "s", text: "x", expires: 999_000}}}).add(event{what: evSettled, at: later, device: "d", stream: 1}), ""},
		{"not at the end", begin().send("1", "x", 2).audit("x").settled(), `7: d never got session:r 2`},
		{"gone, and told", begin().send("1", "x", 2).send("2", "y", 3).audit("x", "y").add(event{what: evTrimmed, log: room("r"), seq: 3}).add(event{what: evGapped, device: "d", stream: 1, log: room("r"), seq: 3}).got(3, "y").settled(), ""},
		{"gone, and not told", begin().send("1", "x", 2).send("2", "y", 3).audit("x", "y").add(event{what: evTrimmed, log: room("r"), seq: 3}).got(3, "y").settled(), `7: d never got session:r 2`},
		{"told, and not gone", begin().send("1", "x", 2).send("2", "y", 3).audit("x", "y").add(event{what: evGapped, device: "d", stream: 1, log: room("r"), seq: 3}).got(3, "y").settled(), "7: d was told that session:r begins at 3"},
		{"told what it has", begin().send("1", "x", 2).got(2, "x").audit("x").add(event{what: evTrimmed, log: room("r"), seq: 2}).add(event{what: evGapped, device: "d", stream: 1, log: room("r"), seq: 2}), "7: d was at 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := check(tt.h, time.Second)
			var want []string
			if tt.want != "" {
				want = strings.Split(tt.want, "…")
			}
			ok := len(got) == len(want)
			for i := range want {
				ok = ok && strings.HasPrefix(got[i], want[i])
			}
			if !ok {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
