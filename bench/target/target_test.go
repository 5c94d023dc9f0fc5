package target

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/allsparkrt/allspark/bench/process"
)

func TestKeysAreMintedWithTheSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	secret := strings.Repeat("s", 40)
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tg, err := Running([]string{"http://a"}, nil, file, "")
	if err != nil {
		t.Fatal(err)
	}
	devices, err := tg.Devices(3, "r")
	if err != nil || len(devices) != 3 {
		t.Fatal(devices, err)
	}
	token, err := jwt.Parse(devices[2].Key, func(*jwt.Token) (any, error) { return []byte(secret), nil }, jwt.WithValidMethods([]string{"HS256"}))
	if err != nil {
		t.Fatal(err)
	}
	claims := token.Claims.(jwt.MapClaims)
	if claims["nid"] != "bench-r-2" || claims["sub"] != "bench-r-2" || string(devices[2].ID) != "bench-r-2" {
		t.Errorf("%v for %s", claims, devices[2].ID)
	}
}

func TestKeysFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte(`{"bob":"B","alice":"A"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	tg, err := Running([]string{"http://a"}, nil, "", file)
	if err != nil {
		t.Fatal(err)
	}
	devices, err := tg.Devices(2, "r")
	if err != nil || devices[0].ID != "alice" || devices[0].Key != "A" || devices[1].Key != "B" {
		t.Errorf("%v, %v", devices, err)
	}
	if _, err := tg.Devices(3, "r"); err == nil {
		t.Error("three devices with two keys")
	}
	if _, err := Running(nil, nil, file, file); err == nil {
		t.Error("a secret and keys")
	}
}

func TestReadDemo(t *testing.T) {
	d, err := readDemo(strings.NewReader(`{"servers":["http://a","http://b"],"auth_keys":{"alice":"x"},"token_secret":"s"}` + "\nmore"))
	if err != nil || len(d.Servers) != 2 || d.Secret != "s" {
		t.Errorf("%+v, %v", d, err)
	}
	for _, bad := range []string{"", "{}", `{"servers":["http://a"]}`} {
		if _, err := readDemo(strings.NewReader(bad)); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestFreePorts(t *testing.T) {
	ports, err := process.FreePorts(20)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range ports {
		if seen[p] {
			t.Errorf("port %d twice", p)
		}
		seen[p] = true
	}
}
