package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
)

const testSecret = "0123456789abcdef0123456789abcdef"

// TestTokenIsAccepted checks that servers accept what token makes, and that it
// says what it was asked to say.
func TestTokenIsAccepted(t *testing.T) {
	privateFile, publicFile := keyPair(t)
	secretFile := filepath.Join(t.TempDir(), "secret")
	writeFile(t, secretFile, []byte(testSecret+"\n"))
	tests := []struct {
		name string
		env  []string
		args []string
		key  auth.KeySource
		want envelope.Principal
		ttl  time.Duration
	}{
		{
			"secret", nil,
			[]string{"--client=ann", "--secret=" + testSecret},
			auth.KeySource{Secret: auth.Secret(testSecret)},
			envelope.Principal{Node: "ann", Client: "ann"},
			24 * time.Hour,
		},
		{
			"environment",
			[]string{"ALLSPARK_TOKEN_SECRET=" + testSecret},
			[]string{"--client=ann", "--node=ann-phone", "--ttl=90s"},
			auth.KeySource{Secret: auth.Secret(testSecret)},
			envelope.Principal{Node: "ann-phone", Client: "ann"},
			90 * time.Second,
		},
		{
			"secret file", nil,
			[]string{"--client=shop", "--app", "--kid=k1", "--secret-file=" + secretFile},
			auth.KeySource{ID: "k1", Secret: auth.Secret(testSecret)},
			envelope.Principal{Node: "shop", Client: "shop", App: true},
			24 * time.Hour,
		},
		{
			"private key", nil,
			[]string{"--client=ann", "--pem=" + privateFile},
			auth.KeySource{PEMFile: publicFile},
			envelope.Principal{Node: "ann", Client: "ann"},
			24 * time.Hour,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"token", "--issuer=me", "--audience=you,them"}, test.args...)
			token := mustRun(t, test.env, args...)
			v, err := auth.NewVerifier(t.Context(), auth.Config{
				Keys: []auth.KeySource{test.key}, Issuers: []string{"me"}, Audiences: []string{"them"},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			got, err := v.Verify(t.Context(), strings.TrimSuffix(token, "\n"))
			if err != nil {
				t.Fatal(err)
			}
			if got.Principal != test.want {
				t.Errorf("speaks for %+v, want %+v", got.Principal, test.want)
			}
			if ttl := got.Expires.Sub(got.Issued); ttl != test.ttl {
				t.Errorf("valid for %v, want %v", ttl, test.ttl)
			}
		})
	}
}

func keyPair(t *testing.T) (privateFile, publicFile string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	publicDER, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	privateFile, publicFile = filepath.Join(dir, "private.pem"), filepath.Join(dir, "public.pem")
	writeFile(t, privateFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}))
	writeFile(t, publicFile, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER}))
	return privateFile, publicFile
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
