package loop

import (
	"errors"
	"testing"
)

// TestText: messages are read one by one, past pongs, up to what is none.
func TestText(t *testing.T) {
	l := start(t, Config{})
	c, client := pair(t, l, nil)
	type read struct {
		text string
		err  error
	}
	reads := make(chan read, 10)
	c.Watch(func(inline bool) bool {
		for {
			text, err := c.Text()
			reads <- read{string(text), err}
			switch {
			case errors.Is(err, ErrNothing) && (inline || c.Await()):
				return false
			case err != nil && !errors.Is(err, ErrNothing):
				return true
			}
		}
	})
	if !c.Await() {
		t.Fatal("there is input before any")
	}
	pong := masked(opPong, true, nil)
	all := append(append([]byte(nil), pong...), masked(opText, true, []byte("a"))...)
	all = append(append(all, pong...), pong...)
	all = append(all, masked(opText, true, []byte("bc"))...)
	all = append(all, masked(opPing, true, []byte("ping"))...)
	for i := range all { // in whatever pieces it comes
		if _, err := client.Write(all[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for next := range reads {
		switch {
		case next.err == nil:
			got = append(got, next.text)
		case errors.Is(next.err, ErrOther):
			if len(got) != 2 || got[0] != "a" || got[1] != "bc" {
				t.Errorf("read %q", got)
			}
			b := make([]byte, 100)
			if n, err := c.Read(b); err != nil || string(b[:n]) != string(masked(opPing, true, []byte("ping"))) {
				t.Errorf("%q is left, %v", b[:n], err)
			}
			return
		case !errors.Is(next.err, ErrNothing):
			t.Fatal(next.err)
		}
	}
}
