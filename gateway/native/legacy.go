package native

import (
	"cmp"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// legacyAnswer bounds how long the one-message form of the pre-connection call
// may take to be delivered.
const legacyAnswer = 10 * time.Second

// preConnection is the original system's answer to the pre-connection call.
type preConnection struct {
	NodeID         envelope.ServerID `json:"node_id"`
	Addr           string            `json:"addr"`
	Port           int               `json:"port"`
	Proxy80Port    string            `json:"proxy_80_port"`
	ValidationKey  string            `json:"validation_key"`
	NumConnections int               `json:"num_connections"`
}

// serveLegacy is the original system's one end point for everything: with
// get_pre_connection_info it tells where to connect, over HTTP or as the one
// message of a WebSocket; otherwise it opens the connection.
func (h *Handler) serveLegacy(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	who, err := h.Verifier.Verify(r.Context(), q.Get("auth_key"))
	if err != nil {
		gateway.Refuse(w, h.Core, h.Log, err)
		return
	}
	switch {
	case isTrue(q.Get("get_pre_connection_info")):
		info, err := h.preConnect(r.Context(), who, isTrue(q.Get("need_80_port")), envelope.SessionID(q.Get("session_id")))
		switch {
		case err != nil:
			gateway.Refuse(w, h.Core, h.Log, err)
		case upgrading(r):
			h.answerOnce(w, r, info)
		default:
			gateway.WriteJSON(w, http.StatusOK, info)
		}
	case !upgrading(r):
		gateway.Refuse(w, h.Core, h.Log, errNotUpgrade)
	default:
		ticket, err := h.redeem(q.Get("validation_key"))
		if err == nil && !ticket.Same(who.Principal) {
			err = envelope.Errorf(envelope.Unauthorized, "not valid")
		}
		if err != nil {
			gateway.Refuse(w, h.Core, h.Log, err)
			return
		}
		h.serve(w, r, who, NewCodec(true), gateway.Options{Answers: true})
	}
}

func (h *Handler) preConnect(ctx context.Context, who auth.Verified, needProxy bool, session envelope.SessionID) (preConnection, error) {
	ev, err := h.Core.Do(ctx, who.Principal, gateway.Locate{NeedProxy: needProxy, Session: session, Max: 1})
	if err != nil {
		return preConnection{}, err
	}
	found := ev.(gateway.Servers).Servers
	if len(found) == 0 {
		return preConnection{}, envelope.BusyError(1000, "no server takes connections", nil)
	}
	s := found[0]
	ticket, _, err := h.Tickets.Issue(s.ID, s.Boot, who)
	if err != nil {
		return preConnection{}, err
	}
	info := preConnection{NodeID: s.ID, Proxy80Port: s.ProxyURL, ValidationKey: ticket, NumConnections: s.Load}
	if host, port, err := net.SplitHostPort(s.Addr); err == nil {
		info.Addr = host
		info.Port, _ = strconv.Atoi(port) // Addr is ours, its port a number
	}
	return info, nil
}

// answerOnce sends v as the one message of a WebSocket.
func (h *Handler) answerOnce(w http.ResponseWriter, r *http.Request, v any) {
	ws, _, err := h.accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ctx, cancel := context.WithTimeout(h.Context, legacyAnswer)
	defer cancel()
	text, err := json.Marshal(v)
	if err == nil && ws.Write(ctx, websocket.MessageText, text) == nil {
		_ = ws.Close(websocket.StatusNormalClosure, "")
	}
}

// isTrue reads the original system's booleans, which came from Python.
func isTrue(s string) bool {
	switch strings.ToLower(cmp.Or(s, "false")) {
	case "true", "1", "yes":
		return true
	}
	return false
}
