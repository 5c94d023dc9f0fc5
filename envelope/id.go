package envelope

// Ids are strings of one form (see [ValidID]) but of different types, so that
// a user cannot be passed where a device is meant.
type (
	// NodeID names one device: the unit that connects, has cursors and owns a log.
	NodeID string
	// ClientID names one user, who may have several devices.
	ClientID string
	// SessionID names one group.
	SessionID string
	// ServerID names one server process of the mesh; it is stable over restarts.
	ServerID string
)

// MaxIDLen is the longest id in bytes.
const MaxIDLen = 128

// ValidID reports whether s has the form of an id:
// one to [MaxIDLen] characters of A–Z, a–z, 0–9 and "_.:@-".
// No character of an id ever needs escaping in JSON.
func ValidID(s string) bool {
	if len(s) == 0 || len(s) > MaxIDLen {
		return false
	}
	for i := range len(s) {
		if !idByte[s[i]] {
			return false
		}
	}
	return true
}

var idByte = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:@-") {
		t[c] = true
	}
	return t
}()

// Principal is who a credential speaks for. Package auth makes them; every
// message and every call carries one.
type Principal struct {
	Node   NodeID
	Client ClientID
	App    bool // may use the server API on behalf of others
}
