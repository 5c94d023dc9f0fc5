package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
	"github.com/allsparkrt/allspark/internal/mongotest"
)

func files(content map[string]string) fstest.MapFS {
	root := make(fstest.MapFS)
	for name, text := range content {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

func TestCgroups(t *testing.T) {
	const mounts1 = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n" +
		"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
	const mounts2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	tests := []struct {
		name  string
		files map[string]string
		want  cgroups
	}{
		{"none", nil, cgroups{}},
		{"version 2", map[string]string{
			"proc/self/cgroup": "0::/system.slice/allspark.service\n", "proc/self/mountinfo": mounts2,
			"sys/fs/cgroup/system.slice/allspark.service/memory.max": "max\n", "sys/fs/cgroup/system.slice/allspark.service/cpu.max": "150000 100000\n",
			"sys/fs/cgroup/system.slice/memory.max": "1073741824\n", "sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
		}, cgroups{1 << 30, 1.5}},
		{"version 2, the tightest", map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": mounts2,
			"sys/fs/cgroup/a/b/memory.max": "2147483648", "sys/fs/cgroup/a/memory.max": "1073741824",
			"sys/fs/cgroup/a/b/cpu.max": "50000 100000", "sys/fs/cgroup/a/cpu.max": "400000 100000",
		}, cgroups{1 << 30, 0.5}},
		{"version 2, the group's own mount", map[string]string{
			"proc/self/cgroup": "0::/../other\n", "proc/self/mountinfo": "30 23 0:26 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
			"sys/fs/cgroup/memory.max": "1073741824", "sys/fs/cgroup/cpu.max": "200000 100000",
		}, cgroups{1 << 30, 2}},
		{"version 1", map[string]string{
			"proc/self/cgroup": "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n0::/\n", "proc/self/mountinfo": mounts1,
			"sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "536870912", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
			"sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "300000", "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
		}, cgroups{512 << 20, 3}},
		{"version 1, without limits", map[string]string{
			"proc/self/cgroup": "4:memory:/\n3:cpu,cpuacct:/\n", "proc/self/mountinfo": mounts1,
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
		}, cgroups{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := readCgroups(files(test.files)); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

func TestKernel(t *testing.T) {
	got := readKernel(files(map[string]string{
		"proc/sys/fs/file-max": "1000\n", "proc/sys/net/core/somaxconn": "128\n", "proc/sys/net/ipv4/tcp_max_syn_backlog": "256\n",
		"proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n", "proc/sys/net/ipv4/tcp_mem": "1\t2\t3\n",
		"proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456\n", "proc/sys/net/ipv4/tcp_wmem": "4096\t16384\t4194304\n",
		"proc/sys/net/netfilter/nf_conntrack_max": "65536\n", "proc/sys/net/netfilter/nf_conntrack_count": "7\n",
		"sys/kernel/mm/transparent_hugepage/enabled":                  "[always] madvise never\n",
		"sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none": "511\n",
	}))
	want := Kernel{
		FileMax: 1000, Somaxconn: 128, SynBacklog: 256, PortLow: 32768, PortHigh: 60999, TCPMemory: 2 * int64(os.Getpagesize()),
		ReadSize: 131072, WriteSize: 16384, Conntrack: 65536, ConntrackUsed: 7, Hugepages: "always", HugepageHoles: 511,
	}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := readKernel(files(nil)); got != (Kernel{}) {
		t.Errorf("of nothing it knows %+v", got)
	}
}

func TestMemory(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "") // what counts is what Go knows, not the variable
	root := files(map[string]string{"proc/meminfo": "MemTotal:       24684092 kB\nSwapTotal:      1024 kB\n"})
	got := readMemory(root, cgroups{memory: 1 << 30})
	if got.Machine != 24684092<<10 || got.Swap != 1<<20 || got.Group != 1<<30 || got.Percent == 0 {
		t.Errorf("%+v", got)
	}
}

// free returns a configuration for this machine, with ports that nobody has.
func free(t *testing.T) config.Config {
	t.Helper()
	port := func() int {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		return l.Addr().(*net.TCPAddr).Port
	}
	c := config.Config{MaxConnections: 100, Host: "127.0.0.1", Port: port(), Data: filepath.Join(t.TempDir(), "not", "there")}
	c.URL = "http://" + c.Addr()
	return c
}

// The real machine can be looked at, and the data directory is as before.
func TestRead(t *testing.T) {
	c := free(t)
	f := Read(t.Context(), c, nil)
	if f.CPU.Machine == 0 || f.Memory.Percent == 0 {
		t.Errorf("%+v, %+v", f.CPU, f.Memory)
	}
	if f.Disk.Err != "" || len(f.Disk.Syncs) != syncs || f.Disk.Dir != filepath.Dir(filepath.Dir(c.Data)) {
		t.Errorf("%+v", f.Disk)
	}
	if left, err := os.ReadDir(f.Disk.Dir); err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
	if len(f.Addresses) != 1 || !f.Addresses[0].Arrived {
		t.Errorf("%+v", f.Addresses)
	}
	for _, finding := range Examine(f) {
		t.Logf("%+v", finding)
	}
}

func TestDiskRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if d := readDisk(file); d.Err == "" {
		t.Errorf("%+v", d)
	}
}

func TestAddresses(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	go func() {
		for {
			conn, err := other.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	busy := other.Addr().String()
	c := free(t)
	gone := free(t)
	for _, test := range []struct {
		name string
		a    Address
		ok   func(Address) bool
	}{
		{"itself", Address{Listen: c.Addr(), Told: c.Addr()}, func(a Address) bool { return a.Arrived }},
		{"nobody", Address{Listen: c.Addr(), Told: gone.Addr()}, func(a Address) bool { return a.DialErr != "" && !a.Arrived }},
		{"another", Address{Listen: c.Addr(), Told: busy}, func(a Address) bool { return a.DialErr == "" && !a.Arrived && !a.Running }},
		{"running", Address{Listen: busy, Told: busy}, func(a Address) bool { return a.Running && a.DialErr == "" }},
		{"other server", Address{Told: busy}, func(a Address) bool { return a.DialErr == "" }},
		{"no other server", Address{Told: gone.Addr()}, func(a Address) bool { return a.DialErr != "" }},
		{"no such address", Address{Listen: "192.0.2.1:8420", Told: busy}, func(a Address) bool { return a.ListenErr != "" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.a.try(t.Context()); !test.ok(test.a) {
				t.Errorf("%+v", test.a)
			}
		})
	}
}

func TestTold(t *testing.T) {
	c := config.Config{Host: "0.0.0.0", Port: 8420, URL: "https://a.example.com", GossipPort: 8421, GossipAdvertise: "10.0.0.1:8421", PeerPort: 8422, PeerURL: "http://10.0.0.1:8422"}
	if all := told(&c); len(all) != 2 || all[0].Told != "a.example.com:443" || all[0].Listen != "0.0.0.0:8420" || all[1].Listen != ":8422" {
		t.Errorf("%+v", all)
	}
	c.MetricsAddr = "127.0.0.1:8423"
	if all := told(&c); len(all) != 3 || all[2] != (Address{Key: "metrics_addr", ListenKey: "metrics_addr", Listen: "127.0.0.1:8423", Told: "127.0.0.1:8423"}) {
		t.Errorf("%+v", all)
	}
	c.MetricsAddr = ""
	c.MongoDBURI, c.Join = "mongodb://db", []string{"10.0.0.2:8421"}
	if all := told(&c); len(all) != 4 || all[3] != (Address{Key: "join", Told: "10.0.0.2:8421"}) || all[1].Told != "10.0.0.1:8422" || all[2].Told != "10.0.0.1:8421" {
		t.Errorf("%+v", all)
	}
	c.Port = 0 // not known before it listens
	if all := told(&c); len(all) != 3 {
		t.Errorf("%+v", all)
	}
}

func TestDatabase(t *testing.T) {
	if d := readDatabase(t.Context(), mongotest.URI(t)); d.Err != "" || d.Hosts == "" || d.RoundTrip == 0 {
		t.Errorf("%+v", d)
	}
	// A password shows in no finding, whatever is wrong.
	for _, uri := range []string{"mongodb://ann:pa55word@[", "mongodb://ann:pa55word@127.0.0.1:1/"} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if d := readDatabase(ctx, uri); d.Err == "" || strings.Contains(d.Err+d.Hosts, "pa55word") {
			t.Errorf("%s: %+v", uri, d)
		}
	}
}

// writeCert makes a certificate and its key.
func writeCert(t *testing.T, host string, begins, ends time.Time) (cert, key string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, NotBefore: begins, NotAfter: ends,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret)
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", own)
}

func TestCert(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name         string
		url          string
		begins, ends time.Duration
		err          string
	}{
		{"good", "https://chat.example.com", -time.Hour, time.Hour, ""},
		{"nothing to compare with", "", -time.Hour, time.Hour, ""},
		{"another host", "https://example.org:8420", -time.Hour, time.Hour, "example.org"},
		{"too early", "https://chat.example.com", time.Hour, 2 * time.Hour, "it begins only at"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cert, key := writeCert(t, "chat.example.com", now.Add(test.begins), now.Add(test.ends))
			certs := readCerts(&config.Config{TLSCert: cert, TLSKey: key, URL: test.url})
			if len(certs) != 1 || certs[0].Key != "tls_cert" || certs[0].Expires <= 0 || !strings.Contains(certs[0].Err, test.err) || test.err == "" && certs[0].Err != "" {
				t.Errorf("%+v", certs)
			}
		})
	}
	if certs := readCerts(&config.Config{PeerCert: "absent.pem", PeerKey: "absent.pem"}); len(certs) != 1 || certs[0].Err == "" {
		t.Errorf("%+v", certs)
	}
}

func TestWarnOpenFiles(t *testing.T) {
	if limit := readOpenFiles(); limit == 0 || limit > math.MaxInt32 {
		t.Skip("there is no limit here")
	}
	for connections, want := range map[int]bool{1: false, math.MaxInt32: true} {
		var log strings.Builder
		WarnOpenFiles(&config.Config{MaxConnections: connections}, slog.New(slog.NewTextHandler(&log, nil)))
		if got := strings.Contains(log.String(), "level=WARN"); got != want {
			t.Errorf("%d connections: %s", connections, log.String())
		}
	}
}
