// Package client speaks AllSpark's native protocol: JSON frames over WebSocket
// (subprotocol allspark.v2.json), and the HTTP API beside it.
//
// A [Client] stands for one device. It keeps one connection, opens a new one
// when it breaks, and carries over what makes that invisible: messages that
// the server has not answered are sent again with their ids, and the server is
// asked for everything after the last message handled. So a durable message is
// stored once and received once as long as the process lives; what a process
// that died had received and not acknowledged, the next one receives again.
//
// Beside messages the server tells of receipts, of how far the user has read on
// its other devices, and of who is connected; Options has a callback for each.
// What the user has read and whose presence it follows is told to the server
// again after a reconnect.
//
// What is done about sessions (making and joining them, by name or by an alias,
// and deciding who else is in), and pages of history, are calls of [API], which
// a Client has as well; what happens in a session comes as messages of the types
// from [envelope.TypeJoined] on, by the server. Who sends too many messages that
// are not stored to a session is told to wait: those with an id are sent again
// when the server says so, others are lost.
//
// Topics are followed with [Client.Subscribe], again after every reconnect, and
// of those that keep what is said nothing is missed by that. The server keeps no
// positions of them: [Client.Cursors] has them for the next process.
//
// Two goroutines serve a connection: one reads and one writes. All queues are
// bounded: [Client.SendAsync] waits when too much is unanswered, and a user who
// receives slowly holds up the reading of the socket, and so the server, which
// keeps the rest in the log.
package client
