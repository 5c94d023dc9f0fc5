package doctor

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Database is what the MongoDB says of itself.
type Database struct {
	Hosts     string // from the URI
	Err       string // why it cannot be asked; holds no credentials
	Version   string
	Set       string // of replicas; "" for a single server
	Sharded   bool
	Members   int // of the set, that hold data
	Arbiters  int
	RoundTrip time.Duration
}

// databaseTimeout bounds all questions together.
const databaseTimeout = 5 * time.Second

func readDatabase(ctx context.Context, uri string) Database {
	config := options.Client().ApplyURI(uri)
	if config.Validate() != nil {
		return Database{Err: "mongodb_uri is not usable"} // why may show the password
	}
	d := Database{Hosts: strings.Join(config.Hosts, ",")}
	if err := d.ask(ctx, config.SetServerSelectionTimeout(databaseTimeout)); err != nil {
		// What a driver says may be long and hold what is none of the terminal's business.
		switch err := err.Error(); {
		case strings.Contains(err, "auth error"), strings.Contains(err, "Unauthorized"):
			d.Err = "refuses the user or the password"
		default:
			d.Err = fmt.Sprintf("has no primary that answers within %v", databaseTimeout)
		}
	}
	return d
}

// ask fills d.
func (d *Database) ask(ctx context.Context, config *options.ClientOptions) error {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	client, err := mongo.Connect(config)
	if err != nil {
		return err
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(ctx)) }()
	if err := client.Ping(ctx, nil); err != nil { // connects
		return err
	}
	admin := client.Database("admin")
	var hello struct {
		Set      string   `bson:"setName"`
		Hosts    []string `bson:"hosts"`
		Passives []string `bson:"passives"`
		Arbiters []string `bson:"arbiters"`
		Msg      string   `bson:"msg"`
	}
	begin := time.Now()
	if err := admin.RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
		return err
	}
	d.RoundTrip = time.Since(begin)
	d.Set, d.Sharded = hello.Set, hello.Msg == "isdbgrid"
	d.Members, d.Arbiters = len(hello.Hosts)+len(hello.Passives), len(hello.Arbiters)
	var build struct {
		Version string `bson:"version"`
	}
	// A server that does not tell its version may still be used.
	_ = admin.RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&build)
	d.Version = build.Version
	return nil
}

// Bounds of a database.
const (
	slowDatabase  = 20 * time.Millisecond
	maintained    = 7 // versions before that get no more updates
	enoughMembers = 3
)

func checkDatabase(f *Facts) (found []Finding) {
	const check = "database"
	d := f.Database
	switch {
	case d.Err != "":
		return []Finding{{check, Problem, strings.TrimSpace(d.Hosts + " " + d.Err), "The server waits for it, and takes no clients.", "--mongodb-uri; mongosh URI shows more"}}
	case d.Hosts == "":
		return nil
	}
	advise := func(what, why, do string) { found = append(found, Finding{check, Advice, what, why, do}) }
	const lost = "Writes are acknowledged by a majority; where that is one server, what it alone has is lost with it."
	switch {
	case d.Sharded:
	case d.Set == "":
		advise("a single server, no replica set", lost, "a replica set of three (mongod --replSet), with replicaSet=NAME in the URI")
	case d.Members < enoughMembers && d.Arbiters > 0:
		advise(fmt.Sprintf("replica set %s with an arbiter", d.Set), "While one of the two that hold data is away there is no majority, and every durable message is refused.", "a third member in place of the arbiter")
	case d.Members < enoughMembers:
		advise(fmt.Sprintf("replica set %s of %d", d.Set, d.Members), lost+" Of two, none may be away.", "three members: rs.add(\"HOST:PORT\")")
	}
	if major, err := strconv.Atoi(strings.SplitN(d.Version, ".", 2)[0]); err == nil && major < maintained {
		advise("version "+d.Version, "Its makers do not mend it any more.", fmt.Sprintf("version %d or later", maintained))
	}
	if d.RoundTrip > slowDatabase {
		advise(fmt.Sprintf("it answers after %v", d.RoundTrip.Round(time.Millisecond)), "A durable message waits for two such times and more.", "the database in the same place as the servers")
	}
	if len(found) == 0 {
		found = fine(check, "version %s, answers after %v", d.Version, rounded(d.RoundTrip))
	}
	return found
}
