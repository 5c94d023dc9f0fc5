package client_test

import (
	"context"
	"io"
	"net/http"
	"reflect"
	"testing"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

func TestSessionCalls(t *testing.T) {
	var call, reply string
	a := api(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		call = r.Method + " " + r.URL.Path + " " + string(body)
		if r.Header.Get("Authorization") != "Bearer key" {
			t.Errorf("Authorization %q", r.Header.Get("Authorization"))
		}
		_, _ = io.WriteString(w, reply)
	})
	ses := client.Session{
		ID: "s", Owner: "alice", Master: "s~m", CreatedMS: 5, Node: "s~z", Role: "reader", State: "joined",
		Settings: envelope.Settings{Kind: new("game"), AnyoneCanJoin: new(false), MemberLimit: new(9)},
		Members:  []client.Member{{Node: "alice", Client: "a", Since: 1, Role: "owner"}, {Node: "s~z", Device: "bob", Since: 3, Role: "reader"}},
	}
	const sesJSON = `{"session_id":"s","owner":"alice","master":"s~m","kind":"game","anyone_can_join":false,"member_limit":9,"created":5,
		"node_id":"s~z","role":"reader","state":"joined","members":[{"node_id":"alice","client_id":"a","since":1,"role":"owner"},
		{"node_id":"s~z","device_id":"bob","since":3,"role":"reader"}]}`
	membership := client.Membership{ID: "s", Node: "s~z", Seq: 7}
	const membershipJSON = `{"session_id":"s","node_id":"s~z","seq":7}`
	standing := client.Standing{ID: "s", Node: "bob", State: "left", Since: 2, Until: 8}
	const standingJSON = `{"session_id":"s","node_id":"bob","state":"left","since":2,"until":8}`
	offered := client.Standing{ID: "s", Node: "bob", State: "invited", Role: "moderator"}
	const offeredJSON = `{"session_id":"s","node_id":"bob","state":"invited","role":"moderator"}`

	type of = context.Context
	for _, test := range []struct {
		want  string
		reply string
		do    func(ctx of) (any, error)
		is    any
	}{
		{`POST /v1/sessions {}`, sesJSON, func(ctx of) (any, error) { return a.CreateSession(ctx, "", envelope.Settings{}) }, ses},
		{`POST /v1/sessions {"session_id":"s","anyone_can_join":false,"as_anonymous":true,"alias":"z"}`, sesJSON, func(ctx of) (any, error) {
			return a.CreateSession(ctx, "s", envelope.Settings{AnyoneCanJoin: new(false)}, client.Anonymously("z"))
		}, ses},
		{`PATCH /v1/sessions/s {"member_limit":0}`, sesJSON, func(ctx of) (any, error) {
			return a.UpdateSession(ctx, "s", envelope.Settings{MemberLimit: new(0)})
		}, ses},
		{`GET /v1/sessions/s `, sesJSON, func(ctx of) (any, error) { return a.Session(ctx, "s") }, ses},
		{`POST /v1/sessions/s/join `, membershipJSON, func(ctx of) (any, error) { return a.JoinSession(ctx, "s") }, membership},
		{`POST /v1/sessions/s/join {"as_anonymous":true}`, membershipJSON, func(ctx of) (any, error) {
			return a.JoinSession(ctx, "s", client.Anonymously(""))
		}, membership},
		{`POST /v1/sessions/s/leave `, membershipJSON, func(ctx of) (any, error) { return a.LeaveSession(ctx, "s") }, membership},
		{`POST /v1/sessions/s/reveal `, standingJSON, func(ctx of) (any, error) { return a.RevealAnonymity(ctx, "s") }, standing},
		{`POST /v1/sessions/s/decline `, standingJSON, func(ctx of) (any, error) { return a.DeclineInvitation(ctx, "s") }, standing},
		{`POST /v1/sessions/s/invite {"node_id":"bob","role":"moderator"}`, offeredJSON, func(ctx of) (any, error) {
			return a.Invite(ctx, "s", "bob", "moderator")
		}, offered},
		{`POST /v1/sessions/s/kick {"node_id":"s~z"}`, standingJSON, func(ctx of) (any, error) { return a.Kick(ctx, "s", "s~z") }, standing},
		{`POST /v1/sessions/s/ban {"node_id":"bob"}`, standingJSON, func(ctx of) (any, error) { return a.Ban(ctx, "s", "bob") }, standing},
		{`POST /v1/sessions/s/unban {"node_id":"bob"}`, standingJSON, func(ctx of) (any, error) { return a.Unban(ctx, "s", "bob") }, standing},
		{`POST /v1/sessions/s/role {"node_id":"bob","role":"reader"}`, standingJSON, func(ctx of) (any, error) {
			return a.SetRole(ctx, "s", "bob", "reader")
		}, standing},
		{`POST /v1/sessions/s/transfer {"node_id":"bob"}`, standingJSON, func(ctx of) (any, error) { return a.TransferSession(ctx, "s", "bob") }, standing},
		{`POST /v1/sessions/s/master {"node_id":"bob"}`, standingJSON, func(ctx of) (any, error) { return a.AppointMaster(ctx, "s", "bob") }, standing},
		{`POST /v1/sessions/s/add {"node_id":"bob","client_id":"b"}`, standingJSON, func(ctx of) (any, error) {
			return a.AddMember(ctx, "s", "bob", "b", "")
		}, standing},
		{`POST /v1/sessions/s/add {"node_id":"bob","client_id":"b","role":"reader","as_anonymous":true}`, standingJSON, func(ctx of) (any, error) {
			return a.AddMember(ctx, "s", "bob", "b", "reader", client.Anonymously(""))
		}, standing},
	} {
		reply = test.reply
		got, err := test.do(t.Context())
		if call != test.want {
			t.Errorf("called %s, want %s", call, test.want)
		}
		if err != nil || !reflect.DeepEqual(got, test.is) {
			t.Errorf("%s: got %+v, %v", test.want, got, err)
		}
	}
}
