package fcm

import (
	"crypto/rsa"
	"encoding/json"
	"errors"

	"github.com/golang-jwt/jwt/v5"
)

// account is a service account's key file.
type account struct {
	Type       string `json:"type"`
	ProjectID  string `json:"project_id"`
	KeyID      string `json:"private_key_id"`
	PrivateKey string `json:"private_key"`
	Email      string `json:"client_email"`
	TokenURI   string `json:"token_uri"`

	key *rsa.PrivateKey
}

func parseAccount(data []byte) (*account, error) {
	var a account
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, errors.New("fcm: the credentials are not JSON") // the cause could quote the key
	}
	switch {
	case a.Type != "service_account":
		return nil, errors.New("fcm: the credentials are not a service account's")
	case a.ProjectID == "" || a.Email == "":
		return nil, errors.New("fcm: the credentials lack the project or the account")
	case !isHTTPS(a.TokenURI):
		return nil, errors.New("fcm: the credentials' token_uri must be https")
	}
	key, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(a.PrivateKey))
	if err != nil {
		return nil, errors.New("fcm: the credentials' private key is not an RSA key in PEM")
	}
	a.key, a.PrivateKey = key, ""
	return &a, nil
}
