package node

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"

	"github.com/allsparkrt/allspark/envelope"
)

// newSessionKey derives what sessions' ids are made with from the mesh key.
func newSessionKey(meshKey []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, meshKey, nil, "allspark session ids v1", sha256.Size)
}

// sessionOf returns the id of the session that a device makes under a key of its
// own: on every server the same as long as the mesh key is, and nobody else can
// tell what it will be, or whose it is. So a repetition finds the session, and
// nothing has to be remembered for it.
func (n *Node) sessionOf(who envelope.NodeID, key string) envelope.SessionID {
	mac := hmac.New(sha256.New, n.idKey)
	mac.Write(envelope.AppendString(envelope.AppendString(nil, string(who)), key))
	return envelope.SessionID(base32.StdEncoding.EncodeToString(mac.Sum(nil)[:20]))
}
