package envelope

// Settings are what the owner of a session decides, as clients say and see
// them. In a change nil leaves one as it is; in a new session it means the
// default, which is the first value named.
type Settings struct {
	Kind          *string `json:"kind,omitempty"`            // "group", "game" or "topic"; does not change
	AnyoneCanJoin *bool   `json:"anyone_can_join,omitempty"` // true
	MemberLimit   *int    `json:"member_limit,omitempty"`    // 0: any number
	MemberList    *string `json:"member_list,omitempty"`     // "members" or "moderators" may see it
	Anonymous     *bool   `json:"anonymous,omitempty"`       // true: members may join by an alias
	Successors    *string `json:"successors,omitempty"`      // of a game's master: "members", "moderators" or "nobody"
	NotifyLast    *int    `json:"notify_only_last_few_users,omitempty"`
	LateJoiners   *string `json:"late_joiners,omitempty"` // see what follows their "joining" or the "header"
	KeepCount     *int    `json:"keep_count,omitempty"`   // of a topic: entries; 0: any number, if there is a time
	KeepSeconds   *int    `json:"keep_seconds,omitempty"` // of a topic; 0: any time, if there is a number
	Publishers    *string `json:"publishers,omitempty"`   // of a topic: "members", who follow it, or the "owner" and the app
}
