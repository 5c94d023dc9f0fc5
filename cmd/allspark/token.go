package main

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
)

// tokenCmd makes auth keys, as an app's backend does at login.
type tokenCmd struct {
	Secret     string `xor:"key" placeholder:"SECRET" help:"Secret to sign with (HS256). Also from ALLSPARK_TOKEN_SECRET, where other users of the machine do not see it."`
	SecretFile string `xor:"key" placeholder:"FILE" help:"File that holds the secret."`
	PEM        string `xor:"key" name:"pem" placeholder:"FILE" help:"File with a private key to sign with, PEM."`
	KID        string `name:"kid" placeholder:"ID" help:"Id of the key, as the servers know it."`

	Client   string        `required:"" placeholder:"ID" help:"The user."`
	Node     string        `placeholder:"ID" help:"The user's device. Default: the client's id."`
	Rights   string        `placeholder:"JSON" help:"What the auth key is good for, as {\"send\":[\"session:*\"],\"join\":[\"lobby\",\"topic:*\"],\"create\":false,\"rate\":20}. What is absent bounds nothing."`
	App      bool          `help:"Allow the server API, on behalf of other users."`
	TTL      time.Duration `name:"ttl" default:"24h" help:"How long the auth key is valid."`
	Issuer   string        `placeholder:"NAME" help:"Issuer (iss)."`
	Audience []string      `placeholder:"NAME" help:"Audiences (aud)."`
	JSON     bool          `name:"json" help:"Print JSON: the auth key, whose it is, its name (jti, for revoke) and when it ends (Unix milliseconds)."`
}

// tokenMade is what token prints as JSON.
type tokenMade struct {
	AuthKey string            `json:"auth_key"`
	Node    envelope.NodeID   `json:"node_id"`
	Client  envelope.ClientID `json:"client_id"`
	JTI     string            `json:"jti"` // by which it can be revoked
	Expires int64             `json:"expires"`
}

// Run prints the auth key and nothing else, unless it is asked for JSON.
func (c *tokenCmd) Run(sys *system) error {
	key, err := c.key(sys)
	if err != nil {
		return err
	}
	var rights *envelope.Rights
	if c.Rights != "" {
		if rights, err = envelope.ParseRights([]byte(c.Rights)); err != nil {
			return usageError("--rights: " + err.Error())
		}
	}
	now := time.Now()
	claims := auth.Claims{
		Client: envelope.ClientID(c.Client), Node: envelope.NodeID(c.Node), App: c.App, Rights: rights,
		Issuer: c.Issuer, Audience: c.Audience,
		JTI: rand.Text(), Issued: now, Expires: now.Add(c.TTL),
	}
	token, err := auth.Mint(key, claims)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(sys.stdout).Encode(tokenMade{
			AuthKey: token, Node: cmp.Or(claims.Node, envelope.NodeID(c.Client)), Client: claims.Client, JTI: claims.JTI,
			Expires: claims.Expires.Truncate(time.Second).UnixMilli(), // as the key says it
		})
	}
	_, err = fmt.Fprintln(sys.stdout, token)
	return err
}

func (c *tokenCmd) key(sys *system) (auth.MintKey, error) {
	key := auth.MintKey{ID: c.KID}
	switch {
	case c.Secret != "":
		key.Secret = auth.Secret(c.Secret)
	case c.SecretFile != "":
		content, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return key, err
		}
		key.Secret = auth.Secret(strings.TrimRight(string(content), "\r\n"))
	case c.PEM != "":
		content, err := os.ReadFile(c.PEM)
		if err != nil {
			return key, err
		}
		key.PEM = content
	default:
		secret, _ := sys.lookupEnv("ALLSPARK_TOKEN_SECRET")
		if secret == "" {
			return key, usageError("no key to sign with: --secret, --secret-file, --pem or ALLSPARK_TOKEN_SECRET")
		}
		key.Secret = auth.Secret(secret)
	}
	return key, nil
}
