package native

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// maxListed is how many devices _session_info_ may name.
const maxListed = 1000

// listedMember is a device that _session_info_ names, and by what name it is in.
type listedMember struct {
	node envelope.NodeID
	as   gateway.Alias
}

// decodeSessionInfo reads the parameter _session_info_: a session's id, which
// may be null, and its members, each with the name of the alias it is to have,
// if any:
//
//	["room", [["alice-phone"], ["bob-phone", "alias"]]]
func decodeSessionInfo(s string) (envelope.SessionID, []listedMember, error) {
	var parts []jsontext.Value
	var id *envelope.SessionID
	var listed [][]jsontext.Value
	err := json.Unmarshal([]byte(s), &parts)
	if err == nil && len(parts) == 2 {
		if err = json.Unmarshal(parts[0], &id); err == nil {
			err = json.Unmarshal(parts[1], &listed)
		}
	}
	if err != nil || len(parts) != 2 || listed == nil {
		return "", nil, errSessionInfo
	}
	if len(listed) > maxListed {
		return "", nil, envelope.Errorf(envelope.TooLarge, "_session_info_ names at most %d devices", maxListed)
	}
	members := make([]listedMember, len(listed))
	for i, member := range listed {
		if members[i], err = decodeListed(member); err != nil {
			return "", nil, err
		}
	}
	if id == nil {
		return "", members, nil
	}
	return *id, members, nil
}

func decodeListed(parts []jsontext.Value) (m listedMember, err error) {
	if len(parts) == 0 || len(parts) > 2 || json.Unmarshal(parts[0], &m.node) != nil || !envelope.ValidID(string(m.node)) {
		return listedMember{}, errSessionInfo
	}
	if len(parts) == 2 {
		var alias *string // null is none, "" is not one
		if json.Unmarshal(parts[1], &alias) != nil || alias != nil && !envelope.ValidID(*alias) {
			return listedMember{}, errSessionInfo
		}
		if alias != nil {
			m.as = gateway.Alias{Anonymous: true, Name: *alias}
		}
	}
	return m, nil
}

var errSessionInfo = envelope.Errorf(envelope.BadRequest, `_session_info_ is JSON of the form ["SESSION", [["NODE"], ["NODE", "ALIAS"], …]]`)
