package webpush

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"testing"

	"github.com/allsparkrt/allspark/internal/pushtest"
)

func decode(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSeal has the example of RFC 8291, section 5 and appendix A.
func TestSeal(t *testing.T) {
	sender, err := ecdh.P256().NewPrivateKey(decode(t, "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"))
	if err != nil {
		t.Fatal(err)
	}
	browser, err := ecdh.P256().NewPrivateKey(decode(t, "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"))
	if err != nil {
		t.Fatal(err)
	}
	public := decode(t, "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4")
	if !bytes.Equal(browser.PublicKey().Bytes(), public) {
		t.Fatal("the example's keys do not belong together")
	}
	auth := decode(t, "BTBZMqHH6r4Tts7J_aSIgg")
	plaintext := []byte("When I grow up, I want to be a watermelon")
	want := decode(t, "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN")
	got, err := seal(sender, decode(t, "DGv6ra1nlYgDCS1FRnbzlw"), public, auth, plaintext, 0)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %x, %v; want %x", got, err, want)
	}
	back, err := pushtest.Decrypt(browser, auth, want)
	if err != nil || !bytes.Equal(back, plaintext) {
		t.Errorf("the browser of the tests reads %q, %v", back, err)
	}
}

func TestEncrypt(t *testing.T) {
	browser, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	auth := make([]byte, 16)
	rand.Read(auth)
	lengths := map[int]bool{}
	for _, size := range []int{0, 1, 255, 256, 257, 1000, maxPlaintext - 1, maxPlaintext} {
		plaintext := bytes.Repeat([]byte{'x'}, size)
		one, err := encrypt(browser.PublicKey().Bytes(), auth, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		two, err := encrypt(browser.PublicKey().Bytes(), auth, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		got, err := pushtest.Decrypt(browser, auth, one)
		if err != nil || !bytes.Equal(got, plaintext) || len(one) > recordSize {
			t.Errorf("%d bytes became %d in %d, %v", size, len(got), len(one), err)
		}
		if bytes.Equal(one[:16], two[:16]) || bytes.Equal(one[21:86], two[21:86]) {
			t.Error("a salt or key was used twice")
		}
		lengths[len(one)] = true
	}
	if len(lengths) != 5 { // 0, 256, 512, 1024, the most
		t.Errorf("%d lengths tell messages apart", len(lengths))
	}
	if _, err := encrypt(make([]byte, 65), auth, nil); err == nil {
		t.Error("encrypted for a point off the curve")
	}
}
