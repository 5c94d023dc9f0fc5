package client_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
)

// Two devices talk; the second one was away when the first wrote.
func Example() {
	network := new(clienttest.Network) // in place of a real server and network
	server := &http.Server{Handler: new(clienttest.Server)}
	defer server.Close()
	go server.Serve(network.Listen("allspark.example:80"))

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	alice, err := client.Dial(ctx, client.Options{
		Servers:    []string{"http://allspark.example"},
		AuthKey:    "alice", // a token that the app's backend minted
		HTTPClient: network.Client(),
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, text := range []string{"Are you there?", "Call me."} {
		e := envelope.Envelope{DestNode: "bob"}
		e.SetPayload(text)
		// Stored when Send returns; bob gets it whenever he comes.
		ack, err := alice.Send(ctx, e)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("stored as", ack.Seq, "in", ack.Log)
	}
	if err := alice.Close(ctx); err != nil {
		log.Fatal(err)
	}

	bob, err := client.Dial(ctx, client.Options{
		Servers:    []string{"http://allspark.example"},
		NewAuthKey: func(context.Context) (string, error) { return "bob", nil },
		HTTPClient: network.Client(),
		OnGap:      func(g client.Gap) { fmt.Println("missed entries of", g.Log, "before", g.Floor) },
	})
	if err != nil {
		log.Fatal(err)
	}
	for m, err := range bob.Messages(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		payload, _ := m.Member("payload")
		fmt.Println(m.SrcNode, "wrote", payload)
		if m.Seq == 2 {
			bob.Ack(m) // leaving the loop does not count it as handled
			break
		}
	}
	if err := bob.Close(ctx); err != nil {
		log.Fatal(err)
	}

	// Output:
	// stored as 1 in node:bob
	// stored as 2 in node:bob
	// alice wrote "Are you there?"
	// alice wrote "Call me."
}
