package apns

import (
	"os"
	"testing"

	"github.com/allsparkrt/allspark/internal/pushtest"
)

func TestCertificate(t *testing.T) {
	service := pushtest.NewAPNs(t)
	sender, err := New(Config{
		Certificate: service.Certificate(t), RootCAs: service.Roots,
		Production: service.URL, Sandbox: service.URL,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	if err := sender.Send(t.Context(), device, hello()); err != nil {
		t.Fatal(err)
	}
	if h := service.Requests()[0].Header; h.Get("Authorization") != "" {
		t.Error("a token as well")
	}
}

// TestP12 reads a certificate made for it, which nobody accepts.
func TestP12(t *testing.T) {
	data, err := os.ReadFile("testdata/test.p12")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Certificate: data, Password: "test"}); err != nil {
		t.Error(err)
	}
	if _, err := New(Config{Certificate: data, Password: "other"}); err == nil {
		t.Error("read with another password")
	}
}
