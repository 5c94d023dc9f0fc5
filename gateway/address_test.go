package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestClientAddress(t *testing.T) {
	proxies, err := ParseProxies([]string{"10.0.0.0/8", "192.0.2.7", "fd00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		remote    string
		forwarded []string
		want      string
	}{
		{"198.51.100.1:80", nil, "198.51.100.1"},
		{"198.51.100.1:80", []string{"203.0.113.9"}, "198.51.100.1"}, // anybody can say that
		{"10.0.0.1:80", nil, "10.0.0.1"},
		{"10.0.0.1:80", []string{""}, "10.0.0.1"},
		{"10.0.0.1:80", []string{"203.0.113.9"}, "203.0.113.9"},
		{"[::ffff:10.0.0.1]:80", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{"[fd00::1%eth0]:80", []string{"2001:db8::1"}, "2001:db8::1"},
		{"10.0.0.1:80", []string{"1.1.1.1, 203.0.113.9"}, "203.0.113.9"},
		{"10.0.0.1:80", []string{"1.1.1.1, 203.0.113.9, 192.0.2.7,10.2.2.2"}, "203.0.113.9"},
		{"10.0.0.1:80", []string{"1.1.1.1", "203.0.113.9", "192.0.2.7"}, "203.0.113.9"},
		{"10.0.0.1:80", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"10.0.0.1:80", []string{"203.0.113.9:1234"}, "203.0.113.9"},
		{"10.0.0.1:80", []string{"[2001:db8::1]:1234"}, "2001:db8::1"},
		{"10.0.0.1:80", []string{"203.0.113.9, unknown"}, "10.0.0.1"},
		{"10.0.0.1:80", []string{"203.0.113.9, nonsense, 192.0.2.7"}, "192.0.2.7"},
		{"192.0.2.8:80", []string{"203.0.113.9"}, "192.0.2.8"},
		{"pipe", []string{"203.0.113.9"}, "invalid IP"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = test.remote
		r.Header["X-Forwarded-For"] = test.forwarded
		var got netip.Addr
		proxies.Locate(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = AddressOf(r.Context()) })).ServeHTTP(nil, r)
		if got.String() != test.want {
			t.Errorf("%s, %q: %v, want %s", test.remote, test.forwarded, got, test.want)
		}
	}
	for _, text := range []string{"", "host", "10.0.0.0/33", "10.0.0.1:80"} {
		if _, err := ParseProxies([]string{text}); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
