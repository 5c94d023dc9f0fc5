// Package importrule says which package of the project may import which, and
// a test holds it. It reads every Go file, whatever its build tags, because a
// test that asks the Go tool is answered from the test cache.
package importrule

// Rule is what one package, or all that match a pattern, may import of ours.
//
// A pattern is a path below the module: "node", "gateway/*" (exactly one more
// element) or "internal/..." (itself and everything below). What is below cmd
// matches only patterns that begin with cmd.
type Rule struct {
	Package string
	May     []string // in all files
	Tests   []string // in test files besides; nil nothing but itself
	Why     string

	// Outside lists what it may import of other modules; nil means anything.
	Outside []string
	// Never lists what it may not import of other modules.
	Never []string
}

// Rules returns the table. The first rule that matches a package holds; one
// without a rule is refused, so that each new package gets its place here.
func Rules() []Rule {
	const (
		mongo     = "go.mongodb.org/..."
		pebble    = "github.com/cockroachdb/..."
		websocket = "github.com/coder/websocket/..."
	)
	logic := []string{mongo, pebble, websocket}
	stores := []string{"store/...", "internal/..."}
	return []Rule{
		{
			Package: "envelope",
			Why:     "everybody imports it, so it imports nobody: values on the wire need a JSON tokenizer and no more",
			Outside: []string{"github.com/go-json-experiment/json/..."},
		},
		{
			Package: "auth", May: []string{"envelope"}, Never: logic,
			Why: "what a credential says does not depend on where it came from or what it will be used for",
		},
		{
			Package: "graph", May: []string{"envelope"}, Tests: stores, Never: logic,
			Why: "graph, session, inbox and push do not know one another: node puts them together; each declares the Store it needs",
		},
		{
			Package: "session", May: []string{"envelope"}, Tests: stores, Never: logic,
			Why: "as graph",
		},
		{
			Package: "inbox", May: []string{"envelope"}, Tests: stores, Never: logic,
			Why: "as graph",
		},
		{
			Package: "push", May: []string{"envelope"}, Tests: stores, Never: logic,
			Why: "as graph",
		},
		{
			Package: "hook", May: []string{"envelope"}, Tests: stores, Never: logic,
			Why: "as graph",
		},
		{
			Package: "hook/ask", May: []string{"envelope", "hook"}, Never: logic,
			Why: "what the app's backend is asked is signed like what it is told",
		},
		{
			Package: "push/apns", May: []string{"envelope", "push"}, Tests: []string{"internal/..."},
			Why:     "a push service is asked with what push hands it, by its own library and no other; only cmd knows which there are",
			Outside: []string{"github.com/sideshow/apns2/...", "golang.org/x/net/http2"},
		},
		{
			Package: "push/*", May: []string{"envelope", "push"}, Tests: []string{"internal/..."},
			Why:     "as push/apns; what it needs beyond HTTP is to sign",
			Outside: []string{"github.com/golang-jwt/jwt/v5"},
		},
		{
			Package: "gateway", May: []string{"envelope"}, Never: logic,
			Why: "a contract between node and protocols that knows neither",
		},
		{
			Package: "gateway/*", May: []string{"envelope", "auth", "gateway", "internal/loop", "internal/stack"},
			Tests: []string{"gateway/*", "client/...", "internal/..."}, Never: []string{mongo, pebble},
			Why: "a protocol turns bytes into commands; it decides nothing, so it sees neither node nor stores nor other protocols",
		},
		{
			Package: "node", May: []string{"envelope", "auth", "graph", "session", "inbox", "push", "hook", "hook/ask", "gateway", "internal/few", "internal/stack"},
			Tests: []string{"gateway/*", "store/...", "client/...", "internal/..."}, Never: []string{mongo, pebble},
			Why: "the process sees neither a database nor a protocol: cmd hands them to it",
		},
		{
			Package: "store/storetest", May: []string{"envelope", "auth", "graph", "session", "inbox", "push"}, Never: logic,
			Tests: []string{"store/*", "internal/..."},
			Why:   "what a Store promises is said by the package that declares it, and holds for every implementation",
		},
		{
			Package: "store/*", May: []string{"envelope", "auth", "graph", "session", "inbox", "push"},
			Tests: []string{"store/storetest", "internal/..."},
			Why:   "a store implements the interfaces of the packages that use it, and knows no other store",
		},
		{
			Package: "client", May: []string{"envelope"}, Tests: []string{"client/clienttest", "internal/..."},
			Why: "programs of others import it: it must not bring the server along",
		},
		{
			Package: "client/clienttest", May: []string{"envelope"}, Tests: []string{"client"},
			Why: "a server in memory that shares no code with the real one, or both would be wrong together",
		},
		{
			Package: "bench/...", May: []string{"envelope", "auth", "client", "bench/...", "internal/..."},
			Tests: []string{"..."},
			Why:   "it loads servers from outside, as a client",
		},
		{
			Package: "examples/...", May: []string{"envelope", "client"},
			Why: "what users can do: with the client, and without anything of the server",
		},
		{
			Package: "web/...", May: []string{"web/..."},
			Tests: []string{"...", "cmd/..."},
			Why:   "files for browsers, embedded; the server is there for its tests only",
		},
		{
			Package: "cmd/...", May: []string{"...", "cmd/..."},
			Why: "it wires everything together, and nothing outside cmd imports it",
		},
		{
			Package: "nginx", Tests: []string{"envelope", "auth", "client/...", "internal/..."},
			Why: "a configuration file and its test",
		},
		{
			Package: "internal/mongotest",
			Why:     "it starts a database for tests and does not know what is stored there",
		},
		{
			Package: "internal/pushtest",
			Why:     "push services as their documents describe them; what it answers is not made by what is tested with it",
		},
		{
			Package: "internal/...", May: []string{"envelope", "internal/..."},
			Tests: []string{"..."},
			Why:   "test doubles and tools, which may be used by the tests of every package",
		},
	}
}
