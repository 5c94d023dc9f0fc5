package inbox

import (
	"testing"
	"time"
)

func TestParseLimits(t *testing.T) {
	tests := []struct {
		text string
		want Limits
		ok   bool
	}{
		{"", Limits{}, true},
		{" , ", Limits{}, true},
		{"age=1h30m", Limits{Age: 90 * time.Minute}, true},
		{"age=720h, entries=10,bytes=2KiB ,acknowledged=1s", Limits{720 * time.Hour, 10, 2048, time.Second}, true},
		{"bytes=7", Limits{Bytes: 7}, true},
		{"bytes=3GiB", Limits{Bytes: 3 << 30}, true},
		{"bytes=9223372036854775807", Limits{Bytes: 1<<63 - 1}, false},
		{"bytes=8388608TiB", Limits{}, false},
		{"bytes=-1", Limits{}, false},
		{"bytes=KiB", Limits{}, false},
		{"entries=-1", Limits{}, false},
		{"entries=1e3", Limits{}, false},
		{"age=-1h", Limits{}, false},
		{"age", Limits{}, false},
		{"Age=1h", Limits{}, false},
		{"age=1h,age=1h", Limits{}, false},
	}
	for _, test := range tests {
		got, err := ParseLimits(test.text)
		if (err == nil) != test.ok || test.ok && got != test.want {
			t.Errorf("%q: %+v, %v", test.text, got, err)
		}
	}
}

func TestQuotaExceeded(t *testing.T) {
	tests := []struct {
		quota Quota
		of    Extent
		size  int64
		want  bool
	}{
		{Quota{}, Extent{1, 1 << 40, 1 << 60}, 1 << 40, false},
		{Quota{Entries: 2}, Extent{1, 0, 0}, 1, false},
		{Quota{Entries: 2}, Extent{1, 1, 1}, 1, false},
		{Quota{Entries: 2}, Extent{1, 2, 1}, 1, true},
		{Quota{Entries: 2}, Extent{9, 9, 1}, 1, false},
		{Quota{Entries: 2}, Extent{9, 10, 1}, 1, true},
		{Quota{Bytes: 10}, Extent{1, 1, 5}, 5, false},
		{Quota{Bytes: 10}, Extent{1, 1, 5}, 6, true},
		{Quota{Bytes: 10}, Extent{1, 0, 0}, 600, false}, // else it could never be sent
	}
	for _, test := range tests {
		if got := test.quota.Exceeded(test.of, test.size); got != test.want {
			t.Errorf("%+v of %+v with %d more: %v", test.quota, test.of, test.size, got)
		}
	}
}
