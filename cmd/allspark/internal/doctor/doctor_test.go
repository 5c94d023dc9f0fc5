package doctor

import (
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
)

// healthy returns facts of which no check complains.
func healthy() *Facts {
	return &Facts{
		Config: config.Config{
			MaxConnections: 50_000, Host: "10.0.0.1", Port: 8420, PeerPort: 8422, GossipPort: 8421, MetricsAddr: "127.0.0.1:8423",
			AddressConnections: 20_000, AddressRate: 50_000,
		},
		OpenFiles: 100_000,
		Kernel: Kernel{
			FileMax: 1_000_000, Somaxconn: 4096, SynBacklog: 4096, PortLow: 32768, PortHigh: 60999, TCPMemory: 1 << 30,
			ReadSize: 131072, WriteSize: 16384, Conntrack: 262144, Hugepages: "madvise", HugepageHoles: 511,
		},
		Memory:    Memory{Machine: 8 << 30, Percent: 100},
		CPU:       CPU{Machine: 4, Procs: 4},
		Clock:     Clock{Source: "tsc", Known: true, Synced: true},
		Disk:      Disk{Dir: "/data", FS: "ext4", Free: 80 << 30, Size: 100 << 30, Syncs: []time.Duration{time.Millisecond}},
		Database:  Database{Hosts: "db:27017", Version: "8.0.4", Set: "rs0", Members: 3, RoundTrip: time.Millisecond},
		Certs:     []Cert{{Key: "tls_cert", Expires: 60 * 24 * time.Hour}},
		Addresses: []Address{{Key: "url", ListenKey: "port", Listen: "10.0.0.1:8420", Told: "10.0.0.1:8420", Arrived: true}},
	}
}

func TestHealthy(t *testing.T) {
	findings := Examine(healthy())
	if len(findings) < 15 {
		t.Errorf("only %d checks spoke", len(findings))
	}
	for _, f := range findings {
		if f.Level != Fine || f.Found == "" || f.Why != "" {
			t.Errorf("%+v", f)
		}
	}
}

// What is not known is not complained of.
func TestNothingKnown(t *testing.T) {
	for _, f := range Examine(&Facts{Config: config.Config{MaxConnections: 50_000}}) {
		t.Errorf("%+v", f)
	}
}

func TestExamine(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Facts)
		check  string
		level  Level
		says   string // in what was found or is to be done
	}{
		{"configuration", func(f *Facts) { f.Problems = config.Problems{{Key: "port", Text: "bad"}} }, "configuration", Problem, "port: bad"},
		{"few files", func(f *Facts) { f.OpenFiles = 20_000 }, "open files", Problem, "LimitNOFILE=52500 in the systemd unit, or ulimit -Hn 52500; or --max-connections 17500"},
		{"hardly any files", func(f *Facts) { f.OpenFiles = 1024 }, "open files", Problem, "ulimit -Hn 52500"},
		{"just enough files", func(f *Facts) { f.OpenFiles = 52_500 }, "open files", Fine, ""},
		{"few files of the machine", func(f *Facts) { f.Kernel.FileMax = 52_499 }, "open files", Problem, "fs.file-max = 105000"},
		{"short queue", func(f *Facts) { f.Kernel.Somaxconn = 128 }, "connect queue", Problem, "net.core.somaxconn = 4096"},
		{"shorter queue", func(f *Facts) { f.Kernel.Somaxconn = 1024 }, "connect queue", Advice, "net.core.somaxconn = 4096"},
		{"short queue of SYNs", func(f *Facts) { f.Kernel.SynBacklog = 128 }, "connect queue", Advice, "tcp_max_syn_backlog = 4096"},
		{"half a queue of SYNs", func(f *Facts) { f.Kernel.SynBacklog = 2048 }, "connect queue", Advice, "tcp_max_syn_backlog = 4096"},
		{"short queue for few", func(f *Facts) { f.Kernel.Somaxconn, f.Config.MaxConnections = 128, 100 }, "connect queue", Fine, ""},
		{"own ports", func(f *Facts) { f.Kernel.PortLow = 1024 }, "local ports", Advice, "ip_local_reserved_ports = 8420,8422,8423"},
		{"own ports in a mesh", func(f *Facts) { f.Kernel.PortLow, f.Config.MongoDBURI = 1024, "mongodb://db" }, "local ports", Advice, "ip_local_reserved_ports = 8420,8421,8422,8423"},
		{"ports of a proxy", func(f *Facts) { f.Config.TrustedProxies = []string{"10.0.0.9"} }, "local ports", Advice, "28232"},
		{"TCP's memory", func(f *Facts) { f.Kernel.TCPMemory = 100 << 20 }, "socket memory", Advice, "net.ipv4.tcp_mem"},
		{"large buffers", func(f *Facts) { f.Kernel.WriteSize = 4 << 20 }, "socket memory", Advice, "net.ipv4.tcp_wmem"},
		{"conntrack", func(f *Facts) { f.Kernel.Conntrack = 65_536; f.Kernel.ConntrackUsed = 10_000 }, "firewall table", Problem, "nf_conntrack_max = 145000"},
		{"small machine", func(f *Facts) { f.Memory.Machine = 512 << 20 }, "memory", Problem, "--max-connections 16384"},
		{"tiny machine", func(f *Facts) { f.Memory.Machine = 64 << 20 }, "memory", Problem, "more memory"},
		{"tight memory", func(f *Facts) { f.Memory.Group = 1200 << 20; f.Memory.Limit = 900 << 20 }, "memory", Advice, "GOGC=50"},
		{"tight memory, seen to", func(f *Facts) {
			f.Memory.Group, f.Memory.Limit, f.Memory.Percent = 1200<<20, 900<<20, 50
		}, "memory", Fine, ""},
		{"unknown limit", func(f *Facts) { f.Memory.Group = 4 << 30 }, "garbage collector", Advice, "GOMEMLIMIT=3558MiB"},
		{"unknown limit, no cache of the store", func(f *Facts) {
			f.Memory.Group, f.Config.MongoDBURI = 4<<30, "mongodb://db"
		}, "garbage collector", Advice, "GOMEMLIMIT=3686MiB"},
		{"known limit", func(f *Facts) { f.Memory.Group, f.Memory.Limit = 4<<30, 3<<30 }, "garbage collector", Fine, ""},
		{"limit above what there is", func(f *Facts) { f.Memory.Group, f.Memory.Limit = 4<<30, 4<<30 }, "garbage collector", Problem, "GOMEMLIMIT is 4.0 GiB"},
		{"low limit", func(f *Facts) { f.Memory.Limit = 200 << 20 }, "garbage collector", Advice, "little for 50000"},
		{"no collections", func(f *Facts) { f.Memory.Percent = -1 }, "garbage collector", Problem, "GOGC=off"},
		{"swap", func(f *Facts) { f.Memory.Swap = 2 << 30 }, "swap", Advice, "2.0 GiB"},
		{"huge pages", func(f *Facts) { f.Kernel.Hugepages = "always" }, "huge pages", Advice, "max_ptes_none"},
		{"huge pages without holes", func(f *Facts) { f.Kernel.Hugepages, f.Kernel.HugepageHoles = "always", 0 }, "huge pages", Fine, ""},
		{"too many threads", func(f *Facts) { f.CPU.Quota = 2.5 }, "processors", Advice, "GOMAXPROCS is 4"},
		{"quota", func(f *Facts) { f.CPU.Quota, f.CPU.Procs = 2.5, 3 }, "processors", Fine, ""},
		{"half a processor", func(f *Facts) { f.CPU.Quota, f.CPU.Procs = 0.5, 2 }, "processors", Advice, "0.5"},
		{"unused processors", func(f *Facts) { f.CPU.Procs = 1 }, "processors", Advice, "1 of 4"},
		{"slow clock", func(f *Facts) { f.Clock.Source = "hpet" }, "clock", Advice, "hpet"},
		{"clock not known", func(f *Facts) { f.Clock = Clock{Source: "tsc"} }, "clock", Fine, "read from tsc"},
		{"free clock", func(f *Facts) { f.Clock.Synced = false }, "clock", Advice, "chrony"},
		{"no right", func(f *Facts) { f.Disk.Err = "permission denied" }, "data directory", Problem, "permission denied"},
		{"memory as disk", func(f *Facts) { f.Disk.FS = "tmpfs" }, "data directory", Problem, "tmpfs"},
		{"container's layer", func(f *Facts) { f.Disk.FS = "overlay" }, "data directory", Problem, "volume"},
		{"network", func(f *Facts) { f.Disk.FS = "nfs" }, "data directory", Advice, "nfs"},
		{"full", func(f *Facts) { f.Disk.Free = 500 << 20 }, "data directory", Problem, "500 MiB of 100.0 GiB"},
		{"nearly full", func(f *Facts) { f.Disk.Free = 5 << 30 }, "data directory", Advice, "5.0 GiB of"},
		{"too fast to be true", func(f *Facts) { f.Disk.Syncs[0] = 2 * time.Microsecond }, "disk", Problem, "fdatasync"},
		{"slow disk", func(f *Facts) { f.Disk.Syncs[0] = 12 * time.Millisecond }, "disk", Advice, "12ms"},
		{"very slow disk", func(f *Facts) { f.Disk.Syncs[0] = 150 * time.Millisecond }, "disk", Problem, "150ms"},
		{"no database", func(f *Facts) { f.Database.Err = "is away" }, "database", Problem, "db:27017 is away"},
		{"single database", func(f *Facts) { f.Database.Set = "" }, "database", Advice, "replica set"},
		{"routers", func(f *Facts) { f.Database.Set, f.Database.Sharded = "", true }, "database", Fine, ""},
		{"two members", func(f *Facts) { f.Database.Members = 2 }, "database", Advice, "rs0 of 2"},
		{"arbiter", func(f *Facts) { f.Database.Members, f.Database.Arbiters = 2, 1 }, "database", Advice, "arbiter"},
		{"old database", func(f *Facts) { f.Database.Version = "4.4.29" }, "database", Advice, "version 4.4.29"},
		{"far database", func(f *Facts) { f.Database.RoundTrip = 80 * time.Millisecond }, "database", Advice, "80ms"},
		{"wrong certificate", func(f *Facts) { f.Certs[0].Err = "for another host" }, "tls_cert", Problem, "for another host"},
		{"old certificate", func(f *Facts) { f.Certs[0].Expires = -time.Hour }, "tls_cert", Problem, "expired"},
		{"certificate to renew", func(f *Facts) { f.Certs[0].Expires = 36 * time.Hour }, "tls_cert", Advice, "1.5 days"},
		{"no such address here", func(f *Facts) { f.Addresses[0].ListenErr = "cannot assign" }, "url", Problem, "--host or --port"},
		{"no such address for metrics", func(f *Facts) {
			f.Addresses = []Address{{Key: "metrics_addr", ListenKey: "metrics_addr", Listen: "10.0.0.9:8423", Told: "10.0.0.9:8423", ListenErr: "cannot assign"}}
		}, "metrics_addr", Problem, "--metrics-addr"},
		{"leads nowhere", func(f *Facts) { f.Addresses[0].DialErr = "refused" }, "url", Advice, "port 8420 through"},
		{"leads elsewhere", func(f *Facts) { f.Addresses[0].Arrived = false }, "url", Advice, "not from this server"},
		{"runs", func(f *Facts) { f.Addresses[0].Arrived, f.Addresses[0].Running = false, true }, "url", Fine, "by the server, if it runs"},
		{"leads others to themselves", func(f *Facts) {
			f.Config.MongoDBURI, f.Addresses[0].Told = "mongodb://db", "127.0.0.1:8420"
		}, "url", Advice, "127.0.0.1:8420"},
		{"alone, for itself", func(f *Facts) { f.Addresses[0].Told = "127.0.0.1:8420" }, "url", Fine, ""},
		{"other server", func(f *Facts) { f.Addresses = []Address{{Key: "join", Told: "10.0.0.2:8421"}} }, "join", Fine, "10.0.0.2:8421"},
		{"no other server", func(f *Facts) { f.Addresses = []Address{{Key: "join", Told: "10.0.0.2:8421", DialErr: "refused"}} }, "join", Advice, "port 8421, TCP and UDP"},
		{"proxy that is not trusted", func(f *Facts) { f.Config.ProxyURL = "https://entry/node/a" }, "proxy", Problem, "--trusted-proxies"},
		{"proxy", func(f *Facts) { f.Config.TrustedProxies = []string{"10.0.0.9"} }, "proxy", Fine, "worker_connections 102500"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := healthy()
			test.change(f)
			findings := Examine(f)
			for i, found := range findings {
				if i > 0 && found.Level.rank() < findings[i-1].Level.rank() {
					t.Errorf("%+v comes too late", found)
				}
				if found.Level != Fine && (found.Why == "" || found.Do == "" || found.Check != test.check && !strings.HasPrefix(test.name, "proxy")) {
					t.Errorf("%+v", found)
				}
			}
			for _, found := range findings {
				if found.Check == test.check && found.Level == test.level && strings.Contains(found.Found+" "+found.Do, test.says) {
					return
				}
			}
			t.Errorf("%+v", findings)
		})
	}
}
