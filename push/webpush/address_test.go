package webpush

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/allsparkrt/allspark/internal/pushtest"
	"github.com/allsparkrt/allspark/push"
)

func TestAllowed(t *testing.T) {
	tests := []struct {
		address string
		want    bool
	}{
		{"142.250.74.10:443", true},
		{"[2a00:1450:4001:82a::200a]:443", true},
		{"[::ffff:142.250.74.10]:443", true},
		{"142.250.74.10:80", false},
		{"142.250.74.10:22", false},
		{"127.0.0.1:443", false},
		{"127.8.9.10:443", false},
		{"[::1]:443", false},
		{"[::ffff:127.0.0.1]:443", false},
		{"0.0.0.0:443", false},
		{"0.1.2.3:443", false},
		{"[::]:443", false},
		{"10.1.2.3:443", false},
		{"172.16.0.1:443", false},
		{"172.31.255.255:443", false},
		{"172.32.0.1:443", true},
		{"192.168.1.1:443", false},
		{"[::ffff:192.168.1.1]:443", false},
		{"169.254.169.254:443", false}, // where clouds keep their credentials
		{"[fe80::1]:443", false},
		{"[fe80::1%eth0]:443", false},
		{"[2a00:1450::1%eth0]:443", false},
		{"[fc00::1]:443", false},
		{"[fd00:ec2::254]:443", false},
		{"[fec0::1]:443", false},
		{"100.64.0.1:443", false},
		{"100.127.255.255:443", false},
		{"100.128.0.1:443", true},
		{"192.0.0.170:443", false},
		{"192.0.2.1:443", false},
		{"192.88.99.1:443", false},
		{"198.18.0.1:443", false},
		{"198.19.255.255:443", false},
		{"198.51.100.1:443", false},
		{"203.0.113.1:443", false},
		{"224.0.0.1:443", false},
		{"240.0.0.1:443", false},
		{"255.255.255.255:443", false},
		{"[::7f00:1]:443", false},
		{"[64:ff9b::7f00:1]:443", false},
		{"[64:ff9b:1::1]:443", false},
		{"[100::1]:443", false},
		{"[2001::1]:443", false},
		{"[2001:db8::1]:443", false},
		{"[2001:4860:4860::8888]:443", true},
		{"[2002:7f00:1::1]:443", false},
		{"[3fff::1]:443", false},
		{"[ff02::1]:443", false},
	}
	c := Config{Ports: []uint16{443}}
	for _, test := range tests {
		at := netip.MustParseAddrPort(test.address)
		if got := allowed(at, c); got != test.want {
			t.Errorf("%s: %t", test.address, got)
		}
		c := Config{Ports: []uint16{443}, Loopback: true}
		if got := allowed(at, c); got != (test.want || at.Addr().Unmap().IsLoopback()) {
			t.Errorf("%s: %t in tests", test.address, got)
		}
	}
	if !allowed(netip.MustParseAddrPort("142.250.74.10:8443"), Config{Ports: []uint16{443, 8443}}) {
		t.Error("a port that was allowed is not")
	}
}

// TestInside has endpoints that lead to this machine, by address and by name:
// nothing may connect.
func TestInside(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	connected := make(chan bool)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			conn.Close()
		}
		connected <- err == nil
	}()
	service := pushtest.NewWebPush(t)
	sender, err := New(Config{Key: service.Key, Subject: "mailto:a@example.com", RootCAs: service.Roots, Ports: []uint16{443, uint16(port)}})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:"+strconv.Itoa(port))
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "127.1", "0x7f000001", "2130706433", "[::ffff:127.0.0.1]", "0.0.0.0"} {
		to := token(service)
		to.Value = "https://" + net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port)) + "/secret"
		err := sender.Send(t.Context(), to, hello())
		f, ok := errors.AsType[*push.Failure](err)
		if !ok || f.Gone || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", host, err)
		}
		// What resolves is refused; what does not is no address at all.
		if _, err := netip.ParseAddr(strings.Trim(host, "[]")); (err == nil || host == "localhost") && (f.Retry || !errors.Is(f, ErrAddress)) {
			t.Errorf("%s: got %+v", host, f)
		}
		if told := f.Told(); told.Reason != "unreachable" || !told.Retry || told.Gone || told.After != 0 {
			t.Errorf("%s: its owner is told %+v", host, told)
		}
	}
	listener.Close()
	if <-connected {
		t.Error("it connected")
	}
}
