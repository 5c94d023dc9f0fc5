package envelope

import (
	"strconv"
	"strings"
	"time"
)

// GuestPrefix begins the ids of guests, see [Principal].
const GuestPrefix = "guest-"

// GuestID returns the id of a guest whose identity ends at that time, which the
// id says, in Unix seconds: whoever comes upon it later knows when nobody can
// speak for it any more. random makes it unlike any other.
func GuestID(ends time.Time, random string) string {
	return GuestPrefix + strconv.FormatInt(ends.Unix(), 36) + "-" + random
}

// GuestEnds returns when the identity of a guest ends; false when id is not
// that of a guest.
func GuestEnds(id string) (time.Time, bool) {
	rest, guest := strings.CutPrefix(id, GuestPrefix)
	text, random, both := strings.Cut(rest, "-")
	seconds, err := strconv.ParseUint(text, 36, 40)
	if !guest || !both || random == "" || err != nil || !ValidID(id) {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}
