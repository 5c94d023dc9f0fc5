// Package apart makes one target of several servers of one kind that know nothing
// of one another, because one server may have only so many files. Users reach those of
// their own server only. What is between servers it does not show.
package apart

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/allsparkrt/allspark/bench/peer"
)

// Target is some servers of one kind.
type Target struct {
	kind  peer.Shared
	parts []peer.Shared
}

// Of returns n servers of the same kind.
func Of(kind peer.Shared, n int) *Target {
	t := &Target{kind: kind}
	for range n {
		t.parts = append(t.parts, kind.Another().(peer.Shared)) // of the same type
	}
	return t
}

// Servers is how many they are.
func (t *Target) Servers() int { return len(t.parts) }

// Another implements [peer.Shared].
func (t *Target) Another() peer.Target { return Of(t.kind, len(t.parts)) }

// About implements [peer.Target].
func (t *Target) About() peer.About {
	a := t.parts[0].About()
	a.Can.Servers, a.Can.Processes, a.Can.Islands, a.Can.Groups = len(t.parts), len(t.parts), true, false
	return a
}

// between stands between the addresses, and between the secrets, of the servers.
const between = " "

// Start implements [peer.Target].
func (t *Target) Start(ctx context.Context, env peer.Env) error {
	envs := make([]peer.Env, len(t.parts))
	if env.Address == "" {
		for i := range envs {
			envs[i] = peer.Env{Dir: filepath.Join(env.Dir, fmt.Sprint(i+1)), Loop: env.Loop}
			if err := os.Mkdir(envs[i].Dir, 0o755); err != nil {
				return err
			}
		}
	} else {
		addresses, secrets := strings.Split(env.Address, between), make([]string, len(envs))
		if env.Secret != "" {
			secrets = strings.Split(env.Secret, between)
		}
		if len(addresses) != len(envs) || len(secrets) != len(envs) {
			return fmt.Errorf("apart: %d addresses and %d secrets of %d servers", len(addresses), len(secrets), len(envs))
		}
		for i := range envs {
			envs[i] = peer.Env{Address: addresses[i], Secret: secrets[i], Loop: env.Loop}
		}
		envs[0].PIDs = env.PIDs // of all together
	}
	for i, part := range t.parts {
		if err := part.Start(ctx, envs[i]); err != nil {
			for _, started := range t.parts[:i] {
				err = errors.Join(err, started.Stop())
			}
			return err
		}
	}
	return nil
}

// Stop implements [peer.Target].
func (t *Target) Stop() error {
	var errs []error
	for _, part := range t.parts {
		errs = append(errs, part.Stop())
	}
	return errors.Join(errs...)
}

// PIDs implements [peer.Target].
func (t *Target) PIDs() (pids []int) {
	for _, part := range t.parts {
		pids = append(pids, part.PIDs()...)
	}
	return pids
}

// Reach implements [peer.Shared].
func (t *Target) Reach() peer.Env {
	var addresses, secrets []string
	for _, part := range t.parts {
		at := part.Reach()
		addresses, secrets = append(addresses, at.Address), append(secrets, at.Secret)
	}
	return peer.Env{Address: strings.Join(addresses, between), Secret: strings.Join(secrets, between)}
}

// Connect implements [peer.Target].
func (t *Target) Connect(ctx context.Context, u peer.User, h peer.Handler) (peer.Client, error) {
	return t.parts[u.Index%len(t.parts)].Connect(ctx, u, h)
}

// Group implements [peer.Target]: members would be at several servers.
func (t *Target) Group(context.Context, string, []string) error { return peer.ErrCannot }
