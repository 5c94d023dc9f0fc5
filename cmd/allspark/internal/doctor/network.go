package doctor

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// backlog is how many connections should be able to wait for a server that is
// busy: as many as come in the second after all have been lost.
const backlog = 4096

func checkBacklog(f *Facts) (found []Finding) {
	const why = "When everybody comes back at once, what does not fit there is dropped, and tried again a second and more later."
	for _, queue := range []struct {
		name string
		size int64
	}{{"net.core.somaxconn", f.Kernel.Somaxconn}, {"net.ipv4.tcp_max_syn_backlog", f.Kernel.SynBacklog}} {
		want := min(backlog, int64(f.Config.MaxConnections))
		level := Advice // SYN cookies (RFC 4987, section 3.6) help when the other queue is full
		if queue.name == "net.core.somaxconn" && queue.size <= want/8 {
			level = Problem
		}
		switch {
		case queue.size == 0:
		case queue.size >= want:
			found = append(found, fine("connect queue", "%s is %d", queue.name, queue.size)...)
		default:
			found = append(found, Finding{"connect queue", level, fmt.Sprintf("%s is %d", queue.name, queue.size), why, sysctl(queue.name, want)})
		}
	}
	return found
}

// checkPorts looks at the ports that outgoing connections take.
func checkPorts(f *Facts) (found []Finding) {
	const check = "local ports"
	low, high := f.Kernel.PortLow, f.Kernel.PortHigh
	if high == 0 {
		return nil
	}
	var shared []string
	for _, port := range listening(&f.Config) {
		if port >= low && port <= high {
			shared = append(shared, strconv.FormatInt(port, 10))
		}
	}
	if len(shared) > 0 {
		own := strings.Join(shared, ",")
		found = append(found, Finding{
			check, Advice, fmt.Sprintf("the server's own, %s, are among those that outgoing connections take, %d to %d", own, low, high),
			"One that is taken when the server starts keeps it from listening.", sysctl("net.ipv4.ip_local_reserved_ports", own),
		})
	}
	if behindProxy(&f.Config) && high-low+1 < int64(f.Config.MaxConnections) {
		found = append(found, Finding{
			check, Advice, fmt.Sprintf("%d of them", high-low+1),
			"A proxy, or a load generator, has no more connections than that to one address of a server. What counts is the proxy's machine, if that is another one.",
			sysctl("net.ipv4.ip_local_port_range", "1024 65535") + "; or several addresses for the server",
		})
	}
	if len(found) == 0 {
		found = fine(check, "%d to %d", low, high)
	}
	return found
}

// Bounds of what sockets take of the kernel's memory.
const (
	socketBytes    = 8 << 10 // for each when all have something on its way, in both directions
	bufferTooLarge = 1 << 20 // for each to begin with
)

func checkSocketMemory(f *Facts) (found []Finding) {
	const check = "socket memory"
	if f.Kernel.TCPMemory == 0 {
		return nil // only the machine's own namespace knows
	}
	need := int64(f.Config.MaxConnections) * socketBytes
	if f.Kernel.TCPMemory < need {
		pages := need / int64(os.Getpagesize())
		found = append(found, Finding{
			check, Advice, fmt.Sprintf("%s for all connections, %d of them may need %s", size(f.Kernel.TCPMemory), f.Config.MaxConnections, size(need)),
			"TCP makes all windows small and drops what comes.", sysctl("net.ipv4.tcp_mem", fmt.Sprintf("%d %d %d", pages, 2*pages, 3*pages)),
		})
	}
	for _, buffer := range []struct {
		name string
		size int64
	}{{"net.ipv4.tcp_rmem", f.Kernel.ReadSize}, {"net.ipv4.tcp_wmem", f.Kernel.WriteSize}} {
		if buffer.size > bufferTooLarge {
			found = append(found, Finding{
				check, Advice, fmt.Sprintf("buffers begin with %s (%s)", size(buffer.size), buffer.name),
				"Connections of small messages need much less; slow ones fill what they get.", sysctl(buffer.name, "4096 131072 6291456"),
			})
		}
	}
	if len(found) == 0 {
		found = fine(check, "%s for all connections", size(f.Kernel.TCPMemory))
	}
	return found
}

// checkConntrack looks at the firewall's table, in which each connection has an entry.
func checkConntrack(f *Facts) []Finding {
	const check = "firewall table"
	most := f.Kernel.Conntrack
	need := int64(f.Config.MaxConnections) * 5 / 4
	switch {
	case most == 0:
		return nil
	case most < need+f.Kernel.ConntrackUsed:
		return []Finding{{
			check, Problem, fmt.Sprintf("%d entries, %d in use", most, f.Kernel.ConntrackUsed),
			"When it is full, packets of new connections are dropped without a word.", sysctl("net.netfilter.nf_conntrack_max", 2*(need+f.Kernel.ConntrackUsed)),
		}}
	}
	return fine(check, "%d entries", most)
}
