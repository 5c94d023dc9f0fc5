package node

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/envelope"
)

// peerProtocol is the subprotocol of peer links.
const peerProtocol = "allspark.peer.v1"

// peerHandshake bounds the handshake of a peer link.
const peerHandshake = 5 * time.Second

// The handshake proves to each side that the other knows the mesh key, without
// sending it, and that it is who the edges say it is:
//
//	dialler → introduction{id, boot, nonce, to}
//	acceptor → introduction{id, boot, nonce, to, mac over both introductions and "accept"}
//	dialler → proof{mac over both introductions and "dial"}
//
// The nonces make a recorded handshake worthless. What follows on a plain link
// is not protected against someone on the path: use TLS where there may be one.
type introduction struct {
	ID    envelope.ServerID `json:"id"`
	Boot  string            `json:"boot"`
	Nonce string            `json:"nonce"`
	To    envelope.ServerID `json:"to"`
	MAC   []byte            `json:"mac,omitempty"`
}

type proof struct {
	MAC []byte `json:"mac"`
}

var errPeerAuth = errors.New("the mesh keys differ")

func peerKey(meshKey []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, meshKey, nil, "allspark peer link v1", sha256.Size)
}

func peerMAC(key []byte, role string, dial, accept introduction) []byte {
	mac := hmac.New(sha256.New, key)
	var b []byte
	for _, s := range []string{
		role, string(dial.ID), dial.Boot, dial.Nonce, string(dial.To), string(accept.ID), accept.Boot, accept.Nonce, string(accept.To),
	} {
		b = envelope.AppendString(b, s) // with lengths, so that no two lists look alike
	}
	mac.Write(b)
	return mac.Sum(nil)
}

// introduceDial is the handshake of the side that dialled; it returns who
// answered.
func (p *peers) introduceDial(ctx context.Context, ws *websocket.Conn, to envelope.ServerID) (introduction, error) {
	me := p.introduction(to)
	if err := writeJSON(ctx, ws, me); err != nil {
		return introduction{}, err
	}
	var peer introduction
	if err := readJSON(ctx, ws, &peer); err != nil {
		return introduction{}, err
	}
	if peer.ID != to {
		return introduction{}, fmt.Errorf("%q answered where %q was to be", peer.ID, to)
	}
	if !hmac.Equal(peer.MAC, peerMAC(p.key, "accept", me, peer)) {
		return introduction{}, errPeerAuth
	}
	return peer, writeJSON(ctx, ws, proof{MAC: peerMAC(p.key, "dial", me, peer)})
}

// introduceAccept is the handshake of the other side.
func (p *peers) introduceAccept(ctx context.Context, ws *websocket.Conn) (introduction, error) {
	var peer introduction
	if err := readJSON(ctx, ws, &peer); err != nil {
		return introduction{}, err
	}
	me := p.introduction(peer.ID)
	if peer.To != me.ID || peer.ID == me.ID || !envelope.ValidID(string(peer.ID)) {
		return introduction{}, fmt.Errorf("%q wanted %q", peer.ID, peer.To)
	}
	me.MAC = peerMAC(p.key, "accept", peer, me)
	if err := writeJSON(ctx, ws, me); err != nil {
		return introduction{}, err
	}
	var pr proof
	if err := readJSON(ctx, ws, &pr); err != nil {
		return introduction{}, err
	}
	if !hmac.Equal(pr.MAC, peerMAC(p.key, "dial", peer, me)) {
		return introduction{}, errPeerAuth
	}
	return peer, nil
}

func (p *peers) introduction(to envelope.ServerID) introduction {
	id, boot := p.n.Self()
	return introduction{ID: id, Boot: boot, Nonce: rand.Text(), To: to}
}

func writeJSON(ctx context.Context, ws *websocket.Conn, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return ws.Write(ctx, websocket.MessageText, text)
}

func readJSON(ctx context.Context, ws *websocket.Conn, v any) error {
	kind, text, err := ws.Read(ctx)
	if err != nil {
		return err
	}
	if kind != websocket.MessageText {
		return errors.New("handshake frames are text")
	}
	return envelope.UnmarshalStrict(text, v)
}
