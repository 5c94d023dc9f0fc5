package native

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/allsparkrt/allspark/envelope"
)

// maxListed is how many devices _session_info_ may name.
const maxListed = 1000

// decodeSessionInfo reads the parameter _session_info_: a session's id, which
// may be null, and its members, each with the alias it is to have, if any:
//
//	["room", [["alice-phone"], ["bob-phone", "alias"]]]
func decodeSessionInfo(s string) (envelope.SessionID, []envelope.NodeID, error) {
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
	nodes := make([]envelope.NodeID, len(listed))
	for i, member := range listed {
		if len(member) > 1 {
			return "", nil, errNoAnonymity
		}
		if len(member) == 0 || json.Unmarshal(member[0], &nodes[i]) != nil || !envelope.ValidID(string(nodes[i])) {
			return "", nil, errSessionInfo
		}
	}
	if id == nil {
		return "", nodes, nil
	}
	return *id, nodes, nil
}

var errSessionInfo = envelope.Errorf(envelope.BadRequest, `_session_info_ is JSON of the form ["SESSION", [["NODE"], …]]`)
