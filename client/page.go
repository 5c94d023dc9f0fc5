package client

import (
	"net/url"
	"strconv"
)

// pageOf returns the path of a page of a list: behind after, at most limit.
func pageOf(path, after string, limit int) string {
	v := make(url.Values)
	if after != "" {
		v.Set("after", after)
	}
	if limit > 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
	if len(v) > 0 {
		path += "?" + v.Encode()
	}
	return path
}
