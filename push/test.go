package push

import (
	"context"
	crand "crypto/rand"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// testFor is how long a service keeps a notification that is a test.
const testFor = 5 * time.Minute

// Tried is what a service has said to a notification.
type Tried struct {
	Token   Token
	Failure *Failure // nil: it has taken it
}

// Test sends a notification with that title and body to each token of a device
// at once, once, whatever the device has been told. No tokens, no answers. A
// token that is dead is dropped.
func (q *Queue) Test(ctx context.Context, node envelope.NodeID, title, body string) ([]Tried, error) {
	tokens, err := q.tokens(ctx, node)
	if err != nil {
		return nil, err
	}
	text := q.cfg.Text
	n := Notification{
		ID: digest(crand.Text()), CollapseID: digest("test"), Title: title, Body: body, Urgent: true,
		Sound: text.Sound, Category: text.Category, Channel: text.Channel,
		Data: map[string]string{"test": "true"}, Expires: time.Now().Add(testFor),
	}
	tried := make([]Tried, len(tokens))
	var wg sync.WaitGroup
	for i, t := range tokens {
		wg.Go(func() { tried[i] = Tried{t, q.attempt(ctx, t, n)} })
	}
	wg.Wait()
	return tried, nil
}
