package apns

import (
	"sync"
	"time"

	"github.com/sideshow/apns2/token"
)

// renewAtMost is how often a provider's token may be replaced before its time:
// Apple refuses those that change more than once in 20 minutes.
const renewAtMost = 20 * time.Minute

// provider is the token by which Apple knows the sender. It lives 50 minutes
// of the 60 that Apple allows.
type provider struct {
	token *token.Token // has its own lock

	mu      sync.Mutex
	renewed time.Time // guarded by mu: when last before its time
}

// renew replaces a token that Apple calls expired, and reports whether there is
// another one now. Who comes second finds that it has been done.
func (p *provider) renew(used string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.token.Lock()
	defer p.token.Unlock()
	if p.token.Bearer != used {
		return true
	}
	if !p.renewed.IsZero() && time.Since(p.renewed) < renewAtMost {
		return false
	}
	p.renewed = time.Now()
	done, err := p.token.Generate()
	return done && err == nil
}
