package main

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// errorBody is a failed command's reply, as MongoDB words it.
func errorBody(code int32, name, message string, labels ...string) bson.Raw {
	body := bson.D{
		{Key: "ok", Value: 0.0},
		{Key: "errmsg", Value: message},
		{Key: "code", Value: code},
		{Key: "codeName", Value: name},
	}
	if len(labels) > 0 {
		body = append(body, bson.E{Key: "errorLabels", Value: labels})
	}
	return mustMarshal(body)
}

func protocolError(message string) bson.Raw { return errorBody(17, "ProtocolError", message) }

func notPrimaryError(c command) bson.Raw {
	return errorBody(10107, "NotWritablePrimary", "not primary (injected fault)", retryLabels(c)...)
}

func diskFullError() bson.Raw {
	return errorBody(14031, "OutOfDiskSpace", "no space is left (injected fault)")
}

func unreachableError(c command) bson.Raw {
	return errorBody(6, "HostUnreachable", "primary unreachable (injected fault)", retryLabels(c)...)
}

// retryLabels tells the driver that it may repeat a command, if it is a retryable write.
// For reads the driver decides by the code alone.
func retryLabels(c command) []string {
	if c.retryable {
		return []string{"RetryableWriteError"}
	}
	return nil
}

// addWriteConcernError says that a successful write was applied but not confirmed by a majority in time.
func addWriteConcernError(reply bson.D) bson.D {
	if ok := slices.Contains(reply, bson.E{Key: "ok", Value: 1.0}); !ok {
		return reply
	}
	return append(reply, bson.E{Key: "writeConcernError", Value: bson.D{
		{Key: "code", Value: int32(64)},
		{Key: "codeName", Value: "WriteConcernTimeout"},
		{Key: "errmsg", Value: "waiting for replication timed out (injected fault)"},
		{Key: "errInfo", Value: bson.D{{Key: "wtimeout", Value: true}}},
	}})
}

// mustMarshal encodes documents of our own making, which cannot fail.
func mustMarshal(document bson.D) bson.Raw {
	raw, err := bson.Marshal(document)
	if err != nil {
		panic(err)
	}
	return raw
}
