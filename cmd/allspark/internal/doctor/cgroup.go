package doctor

import (
	"io/fs"
	"path"
	"strings"
)

// cgroups is what the control groups of this process leave it.
type cgroups struct {
	memory int64   // bytes; 0: no limit
	cpus   float64 // processors' worth of time; 0: no limit
}

// readCgroups finds the tightest limits from the process's own group upwards,
// of version 1 or 2 or both. See cgroups(7) and proc_pid_mountinfo(5).
func readCgroups(root fs.FS) cgroups {
	var g cgroups
	own := make(map[string]string) // group by controller; "" is version 2
	for line := range strings.Lines(text(root, "proc/self/cgroup")) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 {
			for controller := range strings.SplitSeq(parts[1], ",") {
				own[controller] = parts[2]
			}
		}
	}
	for line := range strings.Lines(text(root, "proc/self/mountinfo")) {
		before, after, _ := strings.Cut(line, " - ")
		where, kind := strings.Fields(before), strings.Fields(after)
		if len(where) < 5 || len(kind) < 3 {
			continue
		}
		mount, top := strings.TrimPrefix(where[4], "/"), where[3]
		switch kind[0] {
		case "cgroup2":
			for _, dir := range upwards(mount, top, own[""]) {
				g.limitMemory(at(numbers(root, dir+"/memory.max"), 0)) // "max" is no number
				quota := numbers(root, dir+"/cpu.max")
				g.limitCPUs(at(quota, 0), at(quota, 1))
			}
		case "cgroup":
			for controller := range strings.SplitSeq(kind[2], ",") {
				for _, dir := range upwards(mount, top, own[controller]) {
					switch controller {
					case "memory":
						g.limitMemory(at(numbers(root, dir+"/memory.limit_in_bytes"), 0))
					case "cpu":
						g.limitCPUs(at(numbers(root, dir+"/cpu.cfs_quota_us"), 0), at(numbers(root, dir+"/cpu.cfs_period_us"), 0))
					}
				}
			}
		}
	}
	return g
}

// upwards returns the directories of a group and of those above it, in a
// hierarchy whose group top is mounted at mount.
func upwards(mount, top, group string) []string {
	// In a container the group may be above what is mounted: then that is all there is to see.
	below, inside := strings.CutPrefix(group, strings.TrimSuffix(top, "/"))
	if !inside {
		below = ""
	}
	var dirs []string
	for dir := path.Clean("/" + below); dir != "/"; dir = path.Dir(dir) {
		dirs = append(dirs, mount+dir)
	}
	return append(dirs, mount)
}

// unlimited is what version 1 says, about, where there is no limit.
const unlimited = 1 << 60

func (g *cgroups) limitMemory(bytes int64) {
	if bytes > 0 && bytes < unlimited && (g.memory == 0 || bytes < g.memory) {
		g.memory = bytes
	}
}

func (g *cgroups) limitCPUs(quota, period int64) {
	if quota <= 0 || period <= 0 {
		return
	}
	if cpus := float64(quota) / float64(period); g.cpus == 0 || cpus < g.cpus {
		g.cpus = cpus
	}
}
