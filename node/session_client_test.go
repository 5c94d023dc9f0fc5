package node

import (
	"reflect"
	"testing"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// The Go client's calls about sessions, and what servers answer.
func TestSessionsByClient(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		ctx := t.Context()
		alice, bob, carl, dan := m.api("alice", "alice", "a"), m.api("bob", "bob", "b"), m.api("carl", "carl", "a"), m.api("dan", "dan", "b")
		zorro := envelope.AliasOf("r", "zorro")
		standing := func(got client.Standing, err error) func(want client.Standing) {
			return func(want client.Standing) {
				t.Helper()
				if want.ID = "r"; err != nil || got != want {
					t.Errorf("got %+v, %v; want %+v", got, err, want)
				}
			}
		}
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}

		made, err := alice.CreateSession(ctx, "r", envelope.Settings{MemberLimit: new(9), AnyoneCanJoin: new(false)})
		if err != nil || made.Owner != "alice" || *made.MemberLimit != 9 || *made.AnyoneCanJoin || *made.Kind != "group" {
			t.Fatalf("made %+v, %v", made, err)
		}
		changed, err := alice.UpdateSession(ctx, "r", envelope.Settings{AnyoneCanJoin: new(true)})
		if err != nil || !*changed.AnyoneCanJoin || *changed.MemberLimit != 9 {
			t.Errorf("changed to %+v, %v", changed, err)
		}

		joined, err := bob.JoinSession(ctx, "r", client.Anonymously("zorro"))
		if err != nil || joined != (client.Membership{ID: "r", Node: zorro, Seq: 3}) {
			t.Errorf("joined %+v, %v", joined, err)
		}
		if _, err := dan.JoinSession(ctx, "r", client.Anonymously("zorro")); envelope.CodeOf(err) != envelope.Conflict {
			t.Errorf("another's alias: %v", err)
		}
		standing(alice.Invite(ctx, "r", "carl", "moderator"))(client.Standing{Node: "carl", State: "invited", Role: "moderator"})
		if s, err := carl.Session(ctx, "r"); err != nil || s.State != "invited" || s.Role != "moderator" {
			t.Errorf("the invited sees %+v, %v", s, err)
		}
		standing(carl.DeclineInvitation(ctx, "r"))(client.Standing{Node: "carl", State: "declined"})
		_, err = carl.JoinSession(ctx, "r")
		check(err)
		standing(alice.SetRole(ctx, "r", zorro, "moderator"))(client.Standing{Node: zorro, State: "joined", Role: "moderator", Since: 3})

		seen, err := carl.Session(ctx, "r")
		want := []client.Member{
			{Node: "alice", Client: "alice", Since: 1, Role: "owner"},
			{Node: "carl", Client: "carl", Since: 4, Role: "member"},
			{Node: zorro, Since: 3, Role: "moderator"},
		}
		if err != nil || seen.Node != "carl" || seen.Role != "member" || seen.State != "joined" || !reflect.DeepEqual(seen.Members, want) {
			t.Errorf("seen %+v, %v", seen, err)
		}
		if own, err := bob.Session(ctx, "r"); err != nil || own.Node != zorro || own.Role != "moderator" {
			t.Errorf("its own name is %+v, %v", own, err)
		}

		e := to(room("r"), "1", "first")
		_, err = carl.SendHTTP(ctx, e)
		check(err)
		_, err = carl.SendHTTP(ctx, edit(room("r"), "2", 6, "second"))
		check(err)
		page, err := bob.History(ctx, client.HistoryQuery{Log: room("r"), Back: true, Limit: 1})
		if err != nil || len(page.Messages) != 1 || page.Messages[0].Seq != 6 || text(page.Messages[0]) != "second" || page.Next != 6 || !page.More {
			t.Errorf("page %+v, %v", page, err)
		}
		page, err = bob.History(ctx, client.HistoryQuery{Log: room("r"), After: 5})
		if err != nil || len(page.Messages) != 2 || page.More || page.Head != 7 || page.Floor != 3 {
			t.Errorf("page %+v, %v", page, err)
		}

		standing(bob.RevealAnonymity(ctx, "r"))(client.Standing{Node: zorro, State: "joined", Role: "moderator", Since: 3})
		seen, err = carl.Session(ctx, "r")
		want[2] = client.Member{Node: zorro, Client: "bob", Device: "bob", Since: 3, Role: "moderator"}
		if err != nil || !reflect.DeepEqual(seen.Members, want) {
			t.Errorf("seen %+v, %v", seen.Members, err)
		}
		standing(bob.Kick(ctx, "r", "carl"))(client.Standing{Node: "carl", State: "left", Since: 4, Until: 9})
		standing(bob.Ban(ctx, "r", "carl"))(client.Standing{Node: "carl", State: "banned", Since: 4, Until: 9})
		if _, err := carl.JoinSession(ctx, "r"); envelope.CodeOf(err) != envelope.NotFound {
			t.Errorf("joined though banned: %v", err)
		}
		standing(bob.Unban(ctx, "r", "carl"))(client.Standing{Node: "carl", State: "left", Since: 4, Until: 9})
		standing(alice.TransferSession(ctx, "r", zorro))(client.Standing{Node: zorro, State: "joined", Role: "owner", Since: 3})
		left, err := alice.LeaveSession(ctx, "r")
		if err != nil || left != (client.Membership{ID: "r", Node: "alice", Seq: 11}) {
			t.Errorf("left %+v, %v", left, err)
		}
		if _, err := bob.AddMember(ctx, "r", "dan", "dan", ""); envelope.CodeOf(err) != envelope.Forbidden {
			t.Errorf("added without being the app: %v", err)
		}
	})
}
