package auth

import (
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// TestClaimsAsTheyAre: what an app puts into its keys for others is its own
// affair, but no claim comes twice.
func TestClaimsAsTheyAre(t *testing.T) {
	v := newVerifier(t, Config{Keys: []KeySource{{Secret: secretA}}})
	for claims, good := range map[string]bool{
		`"name":"cut off \ud83d"`:           true, // as JavaScript writes half of an emoji
		"\"name\":\"\xff\"":                 true,
		`"x":[{"sub":"eve"}]`:               true,
		`"\u0061pp":true`:                   true, // it is app
		`"sub":"eve"`:                       false,
		`"\u0073ub":"eve"`:                  false,
		`"app":false,"app":true`:            false,
		`"nid":"\ud83d"`:                    false,
		`"rights":{"send":["user:\ud83d"]}`: false,
	} {
		token := signRaw(secretA, `{"alg":"HS256"}`, `{"sub":"alice","exp":`+strconv.FormatInt(start.Add(time.Hour).Unix(), 10)+`,`+claims+`}`)
		if err := verify(v, token); good && err != nil {
			t.Errorf("%s is refused: %v", claims, errors.Unwrap(err))
		} else if !good {
			wantRefused(t, err, token, notValid)
		}
	}
}

// FuzzClaimsAsMap: what encoding/json reads in a map of claims is what is read here,
// and what is refused but there is a name that comes twice or no text.
func FuzzClaimsAsMap(f *testing.F) {
	for _, claims := range []string{
		`{"sub":"a","nid":"b","jti":"j","iss":"i","exp":1e3,"aud":["x","y"],"app":true,"rights":{"send":["session:*"]},"iat":1.5,"x":{"a":[1,{"b":null}]}}`,
		`{"sub":"a","aud":"x","exp":-0,"nbf":null,"iat":12E+2,"app":null}`, `{"\u0061pp":true,"sub":"\u00e4\ud83d\ude00"}`, `null`, `[]`, ` { } `, `{"a":1}x`,
		`{"aud":[null,"x"],"exp":"1"}`, `{"aud":{}}`, `{"app":"true"}`, `{"sub":null,"nid":null}`, `{"exp":1e400}`, `{"exp":1e-400,"x":"\ud800"}`, `{"exp":01}`,
		`{"x":{"a":1,"a":2}}`, "{\"x\":\"\xff\"}", `{"rights":null}`,
	} {
		f.Add([]byte(claims))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var got, want authClaims
		var claims jwt.Claims = &got // as the library has it
		err := json.Unmarshal(b, &claims)
		wantErr := readByMap(b, &want)
		switch {
		case err == nil && wantErr != nil:
			t.Errorf("%q is taken: %+v, want %v", b, got, wantErr)
		case err == nil && !reflect.DeepEqual(got, want):
			t.Errorf("%q is %+v, want %+v", b, got, want)
		case err != nil && wantErr == nil && utf8.Valid(b) && jsontext.Value(b).IsValid():
			t.Errorf("%q is refused: %v", b, err)
		}
	})
}

// readByMap reads claims by encoding/json.
func readByMap(b []byte, c *authClaims) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil || members == nil {
		return err
	}
	date := func(name string) (*jwt.NumericDate, error) {
		var seconds *float64
		err := json.Unmarshal(members[name], &seconds)
		if members[name] == nil || err == nil && seconds == nil {
			return nil, nil
		}
		if err == nil && (*seconds < 0 || *seconds >= 253402300800) {
			err = errors.New("out of range")
		}
		if err != nil {
			return nil, err
		}
		return &jwt.NumericDate{Time: time.Unix(int64(*seconds), 0)}, nil
	}
	var errs [9]error
	for i, into := range []any{&c.sub, &c.nid, &c.iss, &c.jti, &c.aud, &c.app} {
		if value := members[[]string{"sub", "nid", "iss", "jti", "aud", "app"}[i]]; value != nil {
			errs[i] = json.Unmarshal(value, into)
		}
	}
	c.exp, errs[6] = date("exp")
	c.nbf, errs[7] = date("nbf")
	c.iat, errs[8] = date("iat")
	c.rights = jsontext.Value(members["rights"])
	if members["nid"] == nil {
		c.nid = c.sub
	}
	return errors.Join(errs[:]...)
}
