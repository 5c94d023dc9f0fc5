// Package auth turns a credential into a principal: who is calling, and until when.
//
// # Auth keys
//
// An app's own backend mints a JSON Web Token (RFC 7519) at login, and its
// devices present it as a bearer token. [Verifier] checks it:
//
//	sub  client id (the user)                    required
//	nid  node id (the device)                    default: sub
//	app  true: may use the server API            default: false
//	rights  what it is good for, [envelope.Rights]  default: everything of a user's
//	exp  when it ends                            required
//	nbf  when it begins                          honoured
//	iat  when it was made                        must not be in the future
//	iss  one of [Config.Issuers]                 required when that list is not empty
//	aud  has one of [Config.Audiences]           required when that list is not empty
//	jti  its name, for revocation                optional
//
// Claim names are matched exactly and both ids must be [envelope.ValidID].
// Clocks may differ by [Leeway].
//
// The key is chosen by the header's kid alone, and a token without one is
// tried against the keys without an id. Nothing else in the header chooses a
// key: jku, jwk, x5u, x5c and crit are refused, and kid is only ever looked up
// in a map. What a key is decides the algorithms it accepts, so a public
// key never serves as an HMAC secret and "none" never verifies anything
// (RFC 8725, section 3.1). HMAC secrets have at least 32 bytes, RSA keys at
// least 2048 bits.
//
// Rotation: list the current and the previous key, or publish both in a JWK
// set (RFC 7517). Files and URLs are read again every five minutes, and at
// once (at most every ten seconds) when a token names a key nobody knows. A
// source that fails keeps its old keys for a day. While one fails, a
// token that names an unknown key is answered with [envelope.Busy] and not with
// [envelope.Unauthorized], because a client gives up on the latter.
//
// # Validation tokens
//
// An auth key lives long, so it must not be in a URL, and a browser can give a
// WebSocket nothing else. [Tickets] exchanges it for a validation token: valid
// for [TicketLifetime], at one server, during one boot of it, for one device,
// once. Any server of the mesh can mint it, since its key is derived from the
// mesh key. Auth keys and validation tokens differ in key and in the header's
// typ, so neither is accepted as the other (RFC 8725, section 3.11).
//
// # Guests
//
// Who has no account can be given an identity that ends soon: [Guests] makes
// one, with its auth key, and a [Verifier] that knows them takes it like one of
// the app. Any server of the mesh can make and check it. Guests have ids that
// begin with [envelope.GuestPrefix], and a [Verifier] that takes guests refuses such ids
// in keys of the app. Guest keys differ in key, in the header's typ and in aud
// from all other tokens.
//
// # What leaks
//
// A client learns that its credential is not valid or that it has expired, and
// the latter only when the signature was right. The reason is the error's
// cause, for the log; it holds no part of a token except, quoted, the id of an
// unknown key. [Secret] does not print, and [Redact], [RedactURL] and
// [RedactAttr] keep tokens out of texts that come from elsewhere.
//
// All types are safe for concurrent use.
package auth
