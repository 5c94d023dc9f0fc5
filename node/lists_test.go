package node

import (
	"fmt"
	"slices"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

func TestListOfSessions(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		ann, app := m.api("ann", "ann", "a"), m.appAPI("b")
		var want []envelope.SessionID
		for _, id := range []envelope.SessionID{"c", "a", "topic:kept", "b", "B"} {
			settings, by := envelope.Settings{}, ann
			if id.IsTopic() {
				settings.Kind, settings.KeepCount, by = new("topic"), new(3), app
			}
			if _, err := by.CreateSession(t.Context(), id, settings); err != nil {
				t.Fatal(err)
			}
			want = append(want, id)
		}
		slices.Sort(want)
		for _, limit := range []int{0, 1, 2, 5, 9999} {
			var got []envelope.SessionID
			for next, more := envelope.SessionID(""), true; more; {
				page, err := app.Sessions(t.Context(), next, limit)
				if err != nil || limit > 0 && len(page.Sessions) > limit || page.More == (page.Next == "") {
					t.Fatalf("behind %q: %+v, %v", next, page, err)
				}
				for _, s := range page.Sessions {
					if got = append(got, s.ID); s.Owner == "ann" == s.ID.IsTopic() || s.CreatedMS == 0 || s.Kind == nil || len(s.Members) > 0 || s.Node != "" {
						t.Errorf("%+v", s)
					}
				}
				next, more = page.Next, page.More
			}
			if !slices.Equal(got, want) {
				t.Errorf("by %d: %q, want %q", limit, got, want)
			}
		}
		if _, err := app.Sessions(t.Context(), "not an id", 0); envelope.CodeOf(err) != envelope.BadRequest {
			t.Errorf("behind no id: %v", err)
		}
		if _, err := ann.Sessions(t.Context(), "", 0); envelope.CodeOf(err) != envelope.Forbidden {
			t.Errorf("not the app: %v", err)
		}
	})
}

func TestPagesOfMembers(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		ann := m.api("ann", "ann", "a")
		if _, err := ann.CreateSession(t.Context(), "room", envelope.Settings{MemberList: new("moderators")}); err != nil {
			t.Fatal(err)
		}
		want := []envelope.NodeID{"ann"}
		for i := range 7 {
			device, as := fmt.Sprint("device-", (i*3)%7), gateway.Alias{}
			want = append(want, envelope.NodeID(device))
			if i == 6 {
				as.Name, as.Anonymous = "zorro", true
				want[7] = "room~zorro"
			}
			m.joins("a", device, "room", as)
		}
		slices.Sort(want)
		for _, limit := range []int{0, 1, 3, 8} {
			var got []envelope.NodeID
			for next, more := envelope.NodeID(""), true; more; {
				s, err := ann.SessionMembers(t.Context(), "room", next, limit)
				if err != nil || limit > 0 && len(s.Members) > limit || s.More == (s.Next == "") || s.Node != "ann" || s.Role != "owner" {
					t.Fatalf("behind %q: %+v, %v", next, s, err)
				}
				for _, of := range s.Members {
					got = append(got, of.Node)
				}
				next, more = s.Next, s.More
			}
			if !slices.Equal(got, want) {
				t.Errorf("by %d: %q, want %q", limit, got, want)
			}
		}
		one, err := m.api("device-1", "device-1", "a").SessionMembers(t.Context(), "room", "", 1)
		if err != nil || one.More || len(one.Members) != 1 || one.Members[0].Node != "device-1" {
			t.Errorf("who may not see the others: %+v, %v", one, err)
		}
		if _, err := ann.SessionMembers(t.Context(), "room", "not an id", 0); envelope.CodeOf(err) != envelope.BadRequest {
			t.Errorf("behind no id: %v", err)
		}

		// However many there are, who asks for no page gets a bounded one.
		many := gateway.SessionInfo{Members: make([]gateway.MemberInfo, maxListed+1)}
		for i := range many.Members {
			many.Members[i].Node = envelope.NodeID(fmt.Sprintf("d%05d", i))
		}
		first := pageOfMembers(many, gateway.GetSession{})
		if len(first.Members) != maxListed || !first.More || first.Next != first.Members[maxListed-1].Node {
			t.Errorf("%d members, more %v behind %s", len(first.Members), first.More, first.Next)
		}
		rest := pageOfMembers(many, gateway.GetSession{After: first.Next})
		if len(rest.Members) != 1 || rest.More || rest.Next != "" {
			t.Errorf("%+v", rest)
		}
		if all := pageOfMembers(many, gateway.GetSession{All: true}); len(all.Members) != maxListed+1 || all.More {
			t.Errorf("of all: %d members, more %v", len(all.Members), all.More)
		}
	})
}
