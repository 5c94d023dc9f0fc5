package loop

import (
	"bytes"
	"io"
	"strconv"
	"testing"
)

// TestMessage: messages of all sizes go out together, between the frames of the
// library and never into one.
func TestMessage(t *testing.T) {
	l := start(t, Config{})
	c, client := pair(t, l, nil)
	var want []byte
	for _, size := range []int{0, 1, 125, 126, 1<<16 - 1, 1 << 16, 100_000} {
		text := bytes.Repeat([]byte("x"), size)
		if !c.Message(text) {
			t.Fatalf("a message of %d bytes is refused", size)
		}
		theirs := frame(opText, true, text) // as a client would write it: with a mask, of zeros
		head := len(theirs) - size
		theirs[1] &^= 0x80
		want = append(append(want, theirs[:head-4]...), text...)
	}
	pong := []byte{0x80 | 10, 3, 'a', 'b', 'c'}
	_, _ = c.Write(pong[:2])
	if c.Message([]byte("into a frame")) {
		t.Error("a message is taken within a frame of the library")
	}
	_, _ = c.Write(pong[2:])
	if !c.Message(nil) {
		t.Error("a message is refused behind a frame of the library")
	}
	want = append(append(want, pong...), 0x80|opText, 0)
	go func() {
		for left, err := c.Uncork(); left > 0 && err == nil; {
			left, err = c.Drain()
		}
	}()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("other frames than those written, %v", err)
	}
}

// TestMessageAfterGoodbye: nothing follows a close frame, whoever has it written,
// and in how many pieces.
func TestMessageAfterGoodbye(t *testing.T) {
	for _, pieces := range []int{1, 2} {
		t.Run(strconv.Itoa(pieces), func(t *testing.T) {
			c, _ := pair(t, start(t, Config{}), nil)
			goodbye := []byte{0x80 | opClose, 2, 3, 232}
			_, _ = c.Write(goodbye[:len(goodbye)/pieces])
			_, _ = c.Write(goodbye[len(goodbye)/pieces:])
			if c.Message([]byte("one more thing")) {
				t.Error("a message is taken")
			}
		})
	}
	c, _ := pair(t, start(t, Config{}), nil)
	_ = c.Close()
	if c.Message(nil) {
		t.Error("a message is taken when the connection is closed")
	}
}
