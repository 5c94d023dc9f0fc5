package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/allsparkrt/allspark/client"
)

// A browser's subscription goes out as the server reads it.
func TestPushTokenOfABrowser(t *testing.T) {
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.URL.Path + " " + string(body)
		_, _ = io.WriteString(w, "{}")
	}))
	defer server.Close()
	api := &client.API{Servers: []string{server.URL}}
	token := client.PushToken{Service: "webpush", Token: "https://push.example.com/1", P256DH: []byte{4, 255}, Auth: []byte{254}, Locale: "de"}
	if err := api.PutPushToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	want := `PUT /v1/push/token {"service":"webpush","token":"https://push.example.com/1","locale":"de","keys":{"p256dh":"BP8","auth":"_g"}}`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := api.DropPushToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if want := `DELETE /v1/push/token {"service":"webpush","token":"https://push.example.com/1"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
