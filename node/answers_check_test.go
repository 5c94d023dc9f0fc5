package node

import (
	"net/http"
	"testing"
)

// What checks the answers in all tests sees what is wrong with one.
func TestAnswersAreChecked(t *testing.T) {
	a, err := documentedAnswers()
	if err != nil {
		t.Fatal(err)
	}
	const call, problem = "POST /v1/messages", `{"title":"x","status":404,"code":"not_found"}`
	for _, test := range []struct {
		name, pattern string
		status        int
		kind, body    string
		ok            bool
	}{
		{"taken", call, http.StatusOK, "application/json", `{"id":"1","seq":1,"log":"node:x"}`, true},
		{"refused", call, http.StatusNotFound, "application/problem+json", problem, true},
		{"a member too many", call, http.StatusOK, "application/json", `{"id":"1","sequel":1}`, false},
		{"another type of value", call, http.StatusOK, "application/json", `{"seq":"1"}`, false},
		{"no JSON", call, http.StatusOK, "application/json", `ok`, false},
		{"another content type", call, http.StatusOK, "text/plain", `{"id":"1"}`, false},
		{"plain refusal", call, http.StatusNotFound, "text/plain", "404 page not found", false},
		{"refusal of another type", call, http.StatusNotFound, "application/json", problem, false},
		{"refusal without a code", call, http.StatusNotFound, "application/problem+json", `{"title":"x","status":404}`, false},
	} {
		if err := a.check(test.pattern, test.status, test.kind, []byte(test.body)); (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
