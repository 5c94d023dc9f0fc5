// Package mongo keeps logs, cursors, servers, edges and sessions in MongoDB:
// a replica set, a sharded cluster or a standalone server. Any number of
// servers may share one database.
//
// Everything is arbitrated by inserts under unique keys and by updates of one
// document whose filter names what they replace. Nothing needs transactions or
// change streams. DESIGN.md has the reasons.
//
// The collections and their fields, short because each document repeats them:
//
//	messages  _id log|key   l log   s seq   t timestamp  z size
//	          b sizes up to here   d digest   e envelope   x is a stub
//	cursors   _id node|log  n node  l log   d delivered  r read
//	servers   _id server    b boot  t beat  and a record's other members
//	edges     _id addr|server  a addr  v server  b boot  g gen  c connection
//	sightings _id addr      t time
//	sessions  _id session   o owner  f the one before  g reign  t created  k token
//	          a anyone can join  l limit of members  h members hidden  v version
//	          p op  b by  x next settings (a, l, h)  m, w admitted last  q most seats  d paid
//	members   _id session|node  s session  n node  c client  w state  r role  o op
//	          b by  p stays (f from, u until)  v version  x next  g reign  d paid
//	tokens    _id service|token  n node  c client  t registered  and the token's other members
//	mutes     _id node|log  n node  l log   u until
//	jobs      _id task|addr u due   c claim  v version  n opens  a attempts  t told  f failed  o op
//	meta      _id "epoch"   v the epoch
//
// A log and an addr are an address in text form. A message's key is its
// sender and id, "src|id", or for one without an id "!" and random letters;
// neither "|" nor "!" occurs in an id, so that no two keys are ever equal by
// chance. The envelope is its binary form (see [envelope.Envelope.AppendBinary])
// with a Seq of 0.
//
// The indexes besides _id: messages (l, s) unique, and (l, x, s) of stubs only;
// cursors n and l; edges a and (v, b); members s and n; tokens n and c;
// mutes n; jobs u.
package mongo
