package rest

import (
	"net/http"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

type guestRequest struct {
	SessionID envelope.SessionID `json:"session_id"` // the only one that the guest may join; "": any
}

type guestReply struct {
	AuthKey   string            `json:"auth_key"`
	NodeID    envelope.NodeID   `json:"node_id"`
	ClientID  envelope.ClientID `json:"client_id"`
	ExpiresIn int               `json:"expires_in"` // seconds
}

// guest answers POST /v1/guests, for which nobody needs a credential, with a
// new identity.
func (h *Handler) guest(w http.ResponseWriter, r *http.Request) {
	reply, err := h.newGuest(r)
	if err != nil {
		gateway.Refuse(w, h.Core, h.Log, err)
		return
	}
	gateway.WriteJSON(w, http.StatusOK, reply)
}

func (h *Handler) newGuest(r *http.Request) (guestReply, error) {
	var req guestRequest
	if err := readJSON(r, &req); err != nil {
		return guestReply{}, err
	}
	if h.MayMakeGuest != nil {
		if err := h.MayMakeGuest(r.Context()); err != nil {
			return guestReply{}, err
		}
	}
	key, who, err := h.Guests.Issue(req.SessionID)
	if err != nil {
		return guestReply{}, err
	}
	left := time.Until(who.Expires).Round(time.Second)
	return guestReply{AuthKey: key, NodeID: who.Node, ClientID: who.Client, ExpiresIn: int(left.Seconds())}, nil
}
