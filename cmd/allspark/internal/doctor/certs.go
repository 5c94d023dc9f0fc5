package doctor

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"time"

	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
)

// Cert is one of the configured certificates.
type Cert struct {
	Key     string        // of the configuration
	Err     string        // why it cannot be used, or not for the address that goes with it
	Expires time.Duration // from now
}

func readCerts(c *config.Config) (certs []Cert) {
	for _, pair := range []struct{ key, cert, secret, url string }{
		{"tls_cert", c.TLSCert, c.TLSKey, c.URL},
		{"peer_cert", c.PeerCert, c.PeerKey, c.PeerURL},
	} {
		if pair.cert == "" {
			continue
		}
		certs = append(certs, readCert(pair.key, pair.cert, pair.secret, pair.url))
	}
	return certs
}

func readCert(key, cert, secret, of string) Cert {
	c := Cert{Key: key}
	pair, err := tls.LoadX509KeyPair(cert, secret)
	if err != nil {
		c.Err = err.Error()
		return c
	}
	c.Expires = time.Until(pair.Leaf.NotAfter)
	if u, err := url.Parse(of); err == nil && u.Scheme == "https" {
		if err := pair.Leaf.VerifyHostname(u.Hostname()); err != nil {
			c.Err = err.Error()
		}
	}
	if time.Until(pair.Leaf.NotBefore) > 0 {
		c.Err = fmt.Sprintf("it begins only at %s", pair.Leaf.NotBefore.Format(time.DateTime))
	}
	return c
}

// renewal is how long before its end a certificate should have been renewed.
const renewal = 14 * 24 * time.Hour

func checkCerts(f *Facts) (found []Finding) {
	for _, c := range f.Certs {
		check := c.Key
		const why, do = "Who connects refuses it.", "renew it, and restart the server: it reads certificates when it starts"
		switch {
		case c.Err != "":
			found = append(found, Finding{check, Problem, c.Err, why, "a certificate for the host of url or peer_url, and its key"})
		case c.Expires <= 0:
			found = append(found, Finding{check, Problem, "it has expired", why, do})
		case c.Expires < renewal:
			found = append(found, Finding{check, Advice, fmt.Sprintf("it expires in %.1f days", c.Expires.Hours()/24), why, do})
		default:
			found = append(found, fine(check, "good for %.0f days", c.Expires.Hours()/24)...)
		}
	}
	return found
}
