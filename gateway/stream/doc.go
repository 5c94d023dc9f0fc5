// Package stream serves clients that cannot have a WebSocket: the same frames
// with the same numbers over HTTP alone, as server-sent events (WHATWG HTML,
// section 9.2) or in answers to long polls. Clients send with the HTTP API.
//
// # Server-sent events
//
// GET /v1/stream is a connection like any other. Each frame is one event: its
// type is "message" or "control", its data the frame. The event's id says how
// far the client has come (see [Handler] for the query); the Last-Event-ID of
// the next request is where that begins, at whichever server, and
// acknowledges everything up to there. The last event is of type "close", with
// {"close_code","code","detail"} as a WebSocket would have been closed.
//
// An id is left out where it would weigh more than the frames since the last
// one. So a client may get frames again that it has had, and drops them by seq
// as after any resume.
//
// # Long polling
//
// GET /v1/poll answers {"frames":[…],"cursors":"…"} when there is something,
// and with no frames after the wait. The client handles the frames and asks
// again with these cursors, which acknowledges them; until then they come
// again. Between two polls the device is not connected: durable messages wait
// in their logs, volatile ones are lost.
//
// # Topics
//
// ?topic=ID, as often as there are topics to follow, goes with every request.
// Of a topic that keeps what is said the position tells where to go on, as of
// any log; but where it has not fitted into the text, one goes on with what
// comes. To say something in a topic one posts to the server of one's stream.
package stream
