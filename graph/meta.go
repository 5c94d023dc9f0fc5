package graph

import (
	"encoding/binary"
	"errors"
	"net/url"

	"github.com/hashicorp/memberlist"

	"github.com/allsparkrt/allspark/envelope"
)

// What a server tells of itself by gossip, in memberlist's node metadata:
//
//	byte     version (1)
//	byte     flags: 1 draining, 2 leaving for good
//	uvarint  beat, load, max load
//	string   boot, addr, URL, proxy URL, peer URL, zone
//
// The name of the memberlist node is the server's id.
const metaVersion = 1

const (
	metaDraining = 1 << iota
	metaLeaving
)

// errMeta is returned for metadata that is not the form above.
var errMeta = errors.New("graph: malformed node metadata")

// errMetaSize means that a record does not fit into a gossip packet.
var errMetaSize = errors.New("graph: the URLs of this server are too long to be gossiped (512 bytes together)")

func appendMeta(dst []byte, r Record, leaving bool) ([]byte, error) {
	var flags byte
	if r.Draining {
		flags |= metaDraining
	}
	if leaving {
		flags |= metaLeaving
	}
	start := len(dst)
	dst = append(dst, metaVersion, flags)
	for _, n := range [...]uint64{r.Beat, uint64(max(r.Load, 0)), uint64(max(r.MaxLoad, 0))} {
		dst = binary.AppendUvarint(dst, n)
	}
	for _, s := range [...]string{r.Boot, r.Addr, r.URL, r.ProxyURL, r.PeerURL, r.Zone} {
		dst = envelope.AppendString(dst, s)
	}
	if len(dst)-start > memberlist.MetaMaxSize {
		return dst[:start], errMetaSize
	}
	return dst, nil
}

// parseMeta reads the metadata of the memberlist node with that name. Anyone
// with the gossip key can write it, so it is checked like any other input.
func parseMeta(name string, b []byte) (r Record, leaving bool, err error) {
	if len(b) < 2 || len(b) > memberlist.MetaMaxSize || b[0] != metaVersion || !envelope.ValidID(name) {
		return Record{}, false, errMeta
	}
	in := envelope.NewReader(b[2:])
	r = Record{
		ID:       envelope.ServerID(name),
		Draining: b[1]&metaDraining != 0,
		Beat:     in.Uvarint(),
		Load:     int(in.Uvarint() & maxLoad),
		MaxLoad:  int(in.Uvarint() & maxLoad),
		Boot:     in.String(),
		Addr:     in.String(),
		URL:      in.String(),
		ProxyURL: in.String(),
		PeerURL:  in.String(),
		Zone:     in.String(),
	}
	if in.Err() != nil || len(in.Rest()) > 0 || !validRecord(r) {
		return Record{}, false, errMeta
	}
	return r, b[1]&metaLeaving != 0, nil
}

const maxLoad = 1<<31 - 1

// validRecord reports whether a record's ids have their form and its URLs are
// of the schemes they are for, so that nobody dials anything else.
func validRecord(r Record) bool {
	return envelope.ValidID(string(r.ID)) && envelope.ValidID(r.Boot) &&
		isURL(r.URL, "http", "https") && isURL(r.ProxyURL, "http", "https") && isURL(r.PeerURL, "ws", "wss")
}

// isURL reports whether s is empty or an absolute URL of one of two schemes.
func isURL(s, plain, secure string) bool {
	if s == "" {
		return true
	}
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == plain || u.Scheme == secure) && u.Host != "" && u.User == nil
}
