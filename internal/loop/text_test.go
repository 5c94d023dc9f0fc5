package loop

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// masked is a frame of a client with a masking key that shows.
func masked(op byte, fin bool, payload []byte) []byte {
	b := frame(op, fin, payload)
	key := [4]byte{1, 2, 3, 4}
	body := b[len(b)-len(payload):]
	copy(b[len(b)-len(payload)-4:], key[:])
	for i := range body {
		body[i] ^= key[i%4]
	}
	return b
}

// TestPlainText: only what is surely a message of text in one frame is taken for one.
func TestPlainText(t *testing.T) {
	for _, size := range []int{0, 1, 7, 8, 9, 125, 126, 1<<16 - 1, 1 << 16} {
		want := bytes.Repeat([]byte("häß"), size/3+1)[:size]
		in := append(masked(opText, true, want), "more"...)
		payload, key, n, ok := plainText(in)
		if unmask(payload, key); !ok || n != len(in)-len("more") || !bytes.Equal(payload, want) {
			t.Errorf("%d bytes: %v, %d of them", size, ok, n)
		}
		if _, _, _, ok := plainText(in[:n-1]); ok {
			t.Errorf("%d bytes: taken before it is there", size)
		}
	}
	reserved := masked(opText, true, []byte("x"))
	reserved[0] |= 0x40
	unmasked := masked(opText, true, []byte("x"))
	unmasked[1] &^= 0x80
	for name, in := range map[string][]byte{
		"a fragment": masked(opText, false, []byte("x")), "the last fragment": masked(0, true, []byte("x")),
		"binary": masked(2, true, []byte("x")), "a ping": masked(opPing, true, nil), "a goodbye": masked(opClose, true, nil),
		"with a reserved bit": reserved, "unmasked": append(unmasked, "enough"...), "nothing": nil,
	} {
		if _, _, _, ok := plainText(in); ok {
			t.Errorf("%s is taken for a message", name)
		}
	}
}

// FuzzPlainText: whatever comes in, a message that is found is what the header says.
func FuzzPlainText(f *testing.F) {
	f.Add(masked(opText, true, []byte("hello")))
	f.Add(masked(opText, true, make([]byte, 300)))
	f.Add(masked(opText, true, make([]byte, 70_000)))
	f.Fuzz(func(t *testing.T, in []byte) {
		payload, key, n, ok := plainText(in)
		size, _, _, known := header(in)
		if !ok {
			return
		}
		if !known || uint64(n) != size || n > len(in) || [4]byte(in[n-len(payload)-4:]) != key {
			t.Fatalf("%d of %d bytes, %v", n, size, known)
		}
		want := bytes.Clone(payload)
		for i := range want {
			want[i] ^= key[i%4]
		}
		if unmask(payload, key); !bytes.Equal(payload, want) {
			t.Error("the mask is not off")
		}
	})
}

func BenchmarkUnmask(b *testing.B) {
	payload := make([]byte, 200)
	key := [4]byte(binary.LittleEndian.AppendUint32(nil, 0x01020304))
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		unmask(payload, key)
	}
}
