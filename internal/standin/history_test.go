package main

import (
	"fmt"
	"testing"
)

func TestHistoryIsBounded(t *testing.T) {
	h := newHistory(3, 100)
	for i := range 5 {
		h.record(fmt.Sprint(i), 1, make(message, 10))
	}
	if h.recall("1") != nil || h.recall("2") == nil || h.recall("4") == nil {
		t.Error("want the latest 3 sessions and no more")
	}
	h.record("big", 1, make(message, 85))
	if h.recall("3") != nil || h.recall("4") == nil || h.bytes != 95 {
		t.Errorf("want sessions forgotten until 100 bytes suffice, have %d", h.bytes)
	}
	h.record("big", 2, make(message, 1))
	if last := h.recall("big"); last == nil || last.txn != 2 || h.bytes != 11 {
		t.Errorf("want the later write in place of the earlier, have %d bytes", h.bytes)
	}
}
