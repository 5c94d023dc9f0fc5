package mongo

import (
	"errors"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

func duplicate(index int, message string, details bson.D) mongo.BulkWriteError {
	raw, err := bson.Marshal(append(bson.D{{Key: "code", Value: 11000}}, details...))
	if err != nil {
		panic(err)
	}
	return mongo.BulkWriteError{WriteError: mongo.WriteError{Index: index, Code: 11000, Message: message, Raw: raw}}
}

func TestClashIn(t *testing.T) {
	pattern := func(fields ...string) bson.D {
		var keys bson.D
		for _, f := range fields {
			keys = append(keys, bson.E{Key: f, Value: 1})
		}
		return bson.D{{Key: "keyPattern", Value: keys}}
	}
	const prefix = "E11000 duplicate key error collection: allspark.messages index: "
	bulk := func(wce *mongo.WriteConcernError, errs ...mongo.BulkWriteError) error {
		return mongo.BulkWriteException{WriteErrors: errs, WriteConcernError: wce}
	}
	for _, test := range []struct {
		name   string
		err    error
		stored int
		why    clash
		ok     bool
	}{
		{"pattern of the seq", bulk(nil, duplicate(3, "", pattern("l", "s"))), 3, seqClash, true},
		{"pattern of the key", bulk(nil, duplicate(0, "", pattern("_id"))), 0, keyClash, true},
		{"words of the seq", bulk(nil, duplicate(1, prefix+`log_seq dup key: { l: "node:x", s: 5 }`, nil)), 1, seqClash, true},
		{"words of the key", bulk(nil, duplicate(2, prefix+`_id_ dup key: { _id: "node:x|a|m" }`, nil)), 2, keyClash, true},
		{"a key with an index in its name", bulk(nil, duplicate(2, prefix+`_id_ dup key: { _id: "x index: log_seq dup key: " }`, nil)), 2, keyClash, true},
		{"no words", bulk(nil, duplicate(2, "E11000 duplicate key error collection: allspark.messages", nil)), 2, keyClash, true},
		{"not confirmed by a majority", bulk(&mongo.WriteConcernError{Code: 64}, duplicate(2, "", pattern("l", "s"))), 0, noClash, false},
		{"only not confirmed", bulk(&mongo.WriteConcernError{Code: 64}), 0, noClash, false},
		{"another error", bulk(nil, mongo.BulkWriteError{WriteError: mongo.WriteError{Code: 121}}), 0, noClash, false},
		{"no answer", errors.New("connection reset"), 0, noClash, false},
	} {
		stored, why, ok := clashIn(test.err)
		if stored != test.stored || why != test.why || ok != test.ok {
			t.Errorf("%s: %d, %d, %v", test.name, stored, why, ok)
		}
	}
}

func TestWithoutCredentials(t *testing.T) {
	for _, test := range []struct{ text, uri, want string }{
		{"no host h", "mongodb://h/", "no host h"},
		{"bad mongodb://u:p%40ss@h/", "mongodb://u:p%40ss@h/", "bad mongodb://***@h/"},
		{"password p@ss is wrong", "mongodb://u:p%40ss@h/", "password *** is wrong"},
		{"bad u:a@b@h", "mongodb://u:a@b@h", "bad ***@h"},
	} {
		if got := withoutCredentials(test.text, test.uri); got != test.want {
			t.Errorf("%q becomes %q, want %q", test.text, got, test.want)
		}
	}
}

func command(code int32, message string) error {
	return mongo.CommandError{Code: code, Message: message}
}
