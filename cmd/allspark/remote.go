package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/client"
)

// goodbye bounds the time to acknowledge and close when a command ends.
const goodbye = 5 * time.Second

// remote says which server to speak to, and as whom.
type remote struct {
	Server  []string `placeholder:"URL" help:"Servers or entry point, as https://HOST:PORT. Also from ALLSPARK_SERVER."`
	AuthKey string   `placeholder:"KEY" help:"Auth key. Also from ALLSPARK_AUTH_KEY, where other users of the machine do not see it."`
}

func (r *remote) options(sys *system) (client.Options, error) {
	servers, source := r.Server, "--server"
	if len(servers) == 0 {
		if list, _ := sys.lookupEnv("ALLSPARK_SERVER"); list != "" {
			servers, source = strings.Split(list, ","), "ALLSPARK_SERVER"
		}
	}
	if len(servers) == 0 {
		return client.Options{}, usageError("no server: --server or ALLSPARK_SERVER")
	}
	key := r.AuthKey
	if key == "" {
		key, _ = sys.lookupEnv("ALLSPARK_AUTH_KEY")
	}
	if key == "" {
		return client.Options{}, usageError("no auth key: --auth-key or ALLSPARK_AUTH_KEY")
	}
	for _, server := range servers {
		if u, err := url.Parse(server); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return client.Options{}, usageError(fmt.Sprintf("%s: %q is not of the form https://HOST:PORT", source, server))
		}
	}
	return client.Options{Servers: servers, AuthKey: key}, nil
}

// api returns what makes HTTP calls.
func (r *remote) api(sys *system) (*client.API, error) {
	opts, err := r.options(sys)
	if err != nil {
		return nil, err
	}
	return &client.API{Servers: opts.Servers, AuthKey: func(context.Context) (string, error) { return opts.AuthKey, nil }}, nil
}

// goodbyeTo closes c in good order, also when ctx is over already.
func goodbyeTo(ctx context.Context, c *client.Client) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	return c.Close(ctx)
}

// within returns ctx bounded by d, 0 meaning without bound; the cause of its
// end says what took too long.
func within(ctx context.Context, d time.Duration, what string) (context.Context, context.CancelFunc) {
	if d == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, d, &timeoutError{what, d})
}

// timeoutError says that something took too long.
type timeoutError struct {
	what string
	d    time.Duration
}

// Error implements error.
func (e *timeoutError) Error() string { return fmt.Sprintf("%s within %v", e.what, e.d) }
