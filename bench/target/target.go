package target

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/bench/process"
	"github.com/allsparkrt/allspark/bench/scenario"
	"github.com/allsparkrt/allspark/envelope"
)

// Target is servers to be driven.
type Target struct {
	Name   string
	URLs   []string
	PIDs   []int       // of the server processes; none: unknown
	Secret auth.Secret // that auth keys are signed with (HS256)
	Keys   []scenario.Device

	processes []*process.Process
	dir       string
	temporary bool // dir is removed at the end
}

// keyLifetime is how long minted auth keys are valid.
const keyLifetime = 24 * time.Hour

// Devices returns n devices: those whose keys are known, or new ones with keys
// made with the secret.
func (t *Target) Devices(n int, run string) ([]scenario.Device, error) {
	if len(t.Keys) > 0 {
		if len(t.Keys) < n {
			return nil, fmt.Errorf("target: keys for %d devices, not %d", len(t.Keys), n)
		}
		return t.Keys[:n], nil
	}
	devices := make([]scenario.Device, n)
	for i := range devices {
		id := fmt.Sprintf("bench-%s-%d", run, i)
		key, err := t.Key(id, false)
		if err != nil {
			return nil, err
		}
		devices[i] = scenario.Device{ID: envelope.NodeID(id), Key: key}
	}
	return devices, nil
}

// Key makes an auth key with the secret, for a device and its user or for the
// app.
func (t *Target) Key(id string, app bool) (string, error) {
	now := time.Now()
	return auth.Mint(auth.MintKey{Secret: t.Secret}, auth.Claims{
		Client: envelope.ClientID(id), Node: envelope.NodeID(id), App: app, Issued: now, Expires: now.Add(keyLifetime),
	})
}

// CPU returns what the processes have used so far; nil when they are unknown.
func (t *Target) CPU() func() (time.Duration, error) {
	if len(t.PIDs) == 0 {
		return nil
	}
	return func() (time.Duration, error) {
		used, err := process.Used(t.PIDs...)
		return used.CPU, err
	}
}

// Close stops what was started.
func (t *Target) Close() error {
	var errs []error
	for _, p := range t.processes {
		errs = append(errs, p.Stop())
	}
	if t.temporary {
		errs = append(errs, os.RemoveAll(t.dir))
	}
	return errors.Join(errs...)
}

// Running describes servers that run already. The auth keys come from a file
// with a secret to make them with, or from one with a JSON object of device ids
// and keys.
func Running(urls []string, pids []int, secretFile, keysFile string) (*Target, error) {
	t := &Target{Name: "running", URLs: urls, PIDs: pids}
	switch {
	case (secretFile == "") == (keysFile == ""):
		return nil, errors.New("target: needs a file with the secret, or one with auth keys")
	case secretFile != "":
		secret, err := os.ReadFile(secretFile)
		if err != nil {
			return nil, err
		}
		t.Secret = auth.Secret(strings.TrimSpace(string(secret)))
		return t, nil
	}
	raw, err := os.ReadFile(keysFile)
	if err != nil {
		return nil, err
	}
	t.Keys, err = parseKeys(raw)
	return t, err
}

func parseKeys(raw []byte) ([]scenario.Device, error) {
	var keys map[envelope.NodeID]string
	if err := json.Unmarshal(raw, &keys); err != nil {
		return nil, fmt.Errorf("target: not a JSON object of device ids and auth keys: %w", err)
	}
	var devices []scenario.Device
	for id, key := range keys {
		devices = append(devices, scenario.Device{ID: id, Key: key})
	}
	slices.SortFunc(devices, func(a, b scenario.Device) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return devices, nil
}
