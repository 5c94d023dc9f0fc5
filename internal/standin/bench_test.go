package main

import (
	"fmt"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func BenchmarkInsert(b *testing.B) {
	payload := make([]byte, 300)
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			db, _ := start(b)
			log := newLog(b, db)
			seq := 0
			for b.Loop() {
				batch := make([]any, size)
				for i := range batch {
					batch[i] = append(entry("a", seq), bson.E{Key: "payload", Value: payload})
					seq++
				}
				if _, err := log.InsertMany(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(seq)/b.Elapsed().Seconds(), "inserts/s")
		})
	}
}
