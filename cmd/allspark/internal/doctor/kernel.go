package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Kernel is what is set in /proc/sys and /sys; Linux only.
type Kernel struct {
	FileMax                  int64  // fs.file-max
	Somaxconn                int64  // net.core.somaxconn
	SynBacklog               int64  // net.ipv4.tcp_max_syn_backlog
	PortLow, PortHigh        int64  // net.ipv4.ip_local_port_range
	TCPMemory                int64  // bytes of all socket buffers from where on TCP saves: the second of net.ipv4.tcp_mem
	ReadSize, WriteSize      int64  // bytes that a socket begins with: the second of net.ipv4.tcp_rmem and tcp_wmem
	Conntrack, ConntrackUsed int64  // net.netfilter.nf_conntrack_max and _count
	Hugepages                string // transparent huge pages: always, madvise or never
	HugepageHoles            int64  // khugepaged/max_ptes_none
}

// readKernel reads the settings below root, which is /.
func readKernel(root fs.FS) Kernel {
	sys := func(name string) []int64 { return numbers(root, "proc/sys/"+strings.ReplaceAll(name, ".", "/")) }
	k := Kernel{
		FileMax: at(sys("fs.file-max"), 0), Somaxconn: at(sys("net.core.somaxconn"), 0), SynBacklog: at(sys("net.ipv4.tcp_max_syn_backlog"), 0),
		TCPMemory: at(sys("net.ipv4.tcp_mem"), 1) * int64(os.Getpagesize()),
		ReadSize:  at(sys("net.ipv4.tcp_rmem"), 1), WriteSize: at(sys("net.ipv4.tcp_wmem"), 1),
		Conntrack: at(sys("net.netfilter.nf_conntrack_max"), 0), ConntrackUsed: at(sys("net.netfilter.nf_conntrack_count"), 0),
	}
	ports := sys("net.ipv4.ip_local_port_range")
	k.PortLow, k.PortHigh = at(ports, 0), at(ports, 1)
	const hugepages = "sys/kernel/mm/transparent_hugepage/"
	if _, chosen, ok := strings.Cut(text(root, hugepages+"enabled"), "["); ok {
		k.Hugepages, _, _ = strings.Cut(chosen, "]")
	}
	k.HugepageHoles = at(numbers(root, hugepages+"khugepaged/max_ptes_none"), 0)
	return k
}

// text returns what a file holds, trimmed; "" when it cannot be read.
func text(root fs.FS, name string) string {
	content, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

// numbers returns the numbers in a file; none when it holds something else.
func numbers(root fs.FS, name string) []int64 {
	var all []int64
	for _, field := range strings.Fields(text(root, name)) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return nil
		}
		all = append(all, n)
	}
	return all
}

// at returns the ith number, or 0.
func at(all []int64, i int) int64 {
	if i < len(all) {
		return all[i]
	}
	return 0
}

// sysctl is the command that sets something for now and for good.
func sysctl(name string, value any) string {
	return fmt.Sprintf("echo '%s = %v' | sudo tee -a /etc/sysctl.d/90-allspark.conf && sudo sysctl --system", name, value)
}

func checkHugepages(f *Facts) []Finding {
	const check = "huge pages"
	switch {
	case f.Kernel.Hugepages == "":
		return nil
	case f.Kernel.Hugepages == "always" && f.Kernel.HugepageHoles > 0:
		const file = "/sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none"
		return []Finding{{
			check, Advice, fmt.Sprintf("always, also where %d of 512 pages are not in use", f.Kernel.HugepageHoles),
			"The kernel takes again what Go has given back (Go's guide to the garbage collector).", "echo 0 | sudo tee " + file,
		}}
	}
	return fine(check, "%s", f.Kernel.Hugepages)
}
