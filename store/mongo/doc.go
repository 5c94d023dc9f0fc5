// Package mongo keeps logs, cursors, servers, edges, sessions, what push needs
// and revocations in MongoDB: a replica set, a sharded cluster or a standalone
// server. Any number of servers may share one database.
//
// Everything is arbitrated by inserts under unique keys and by updates of one
// document whose filter names what they replace. Nothing needs transactions or
// change streams. DESIGN.md has the reasons.
//
// The collections and their fields, short because each document repeats them:
//
//	messages  _id log|key   l log   s seq   t timestamp  z size
//	          b sizes up to here   d digest   e envelope
//	          r seq that it edits or deletes   w deletes   x is a stub, without e, r and w
//	cursors   _id node|log  n node  l log   d delivered  r read
//	servers   _id server    b boot  t beat  addr, url, proxy, peer, gossip, zone, load, max,
//	          drain, links
//	edges     _id addr|server  a addr  v server  b boot  g gen  c connection
//	sightings _id addr      t time
//	sessions  _id session   o owner  f the one before  g reign  t created  k token  v version
//	          a anyone can join  l limit of members  h members hidden  c kind  n names only
//	          u successors  y notify only so many  j joiners begin at the header
//	          kc, ks keep so many, for seconds  oo only the owner speaks
//	          ma master  mt its term  mo why it changes  mn the next one
//	          p op  b by  x next settings (a to oo)  m, w admitted last, and when by version
//	          q most seats  d paid
//	members   _id session|name  s session  n device  m its name there  c client  k kind
//	          w state  r role  o op  b by  p stays (f from, u until, s since, h header)
//	          v version  x next role  g reign  d paid
//	          a other name, an alias  e revealed  f given by the app
//	headers   _id session   s seq   b by    p payload    v version
//	          o op  y next by  x next payload  d paid
//	tokens    _id service|value  s service  v value  a app  x sandbox  p, h keys of the web
//	          l locale  n node  c client  t registered  j, i name and date of the credential
//	mutes     _id node|log  n node  l log   u until
//	jobs      _id task|addr u due   c claim  v version  n opens  a attempts  o op
//	          t told (l log, s seq)  f failed (t at, l log, s seq, v service, r reason, a attempts)
//	revocations  _id kind and id  j jti  c client  n node  b issued before  e expires
//	meta      _id "epoch"   v the epoch
//	          _id "revoked" v how often revocations have changed
//	          _id "probe"   t when a write was last tried
//
// A log and an addr are an address in text form. A message's key is its
// sender and id, "src|id", or for one without an id "!" and random letters;
// neither "|" nor "!" occurs in an id, so that no two keys are ever equal by
// chance. The envelope is its binary form (see [envelope.Envelope.AppendBinary])
// with a Seq of 0.
//
// The indexes besides _id: messages (l, s) unique, (l, x, s) of stubs only, and
// (l, r, s) of what edits or deletes only; cursors n and l; edges a and (v, b);
// members s and n; tokens n and c; mutes n; jobs u, and f.t of those that have one.
package mongo
