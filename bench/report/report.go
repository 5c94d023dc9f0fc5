// Package report shows the results of runs: as a table, as JSON, as lines for
// benchstat, and as a page with plots.
package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/bench/load"
)

// Report is the results of runs on one machine.
type Report struct {
	Started time.Time     `json:"started"`
	Machine Machine       `json:"machine"`
	Quick   bool          `json:"quick,omitempty"` // figures mean nothing
	About   []About       `json:"scenarios"`
	Results []load.Result `json:"results"` // in the order of running
}

// About describes a scenario.
type About struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	About string `json:"about"`
	Least string `json:"least,omitempty"` // the scenario that does the same where there is least
}

// Machine is where the runs took place.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory"`
	System string `json:"system"`
	Go     string `json:"go"`
}

// ThisMachine describes this machine, as far as it says what it is.
func ThisMachine() Machine {
	m := Machine{
		CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Memory: memory(field("/proc/meminfo", "MemTotal")),
		System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System += " " + string(bytes.TrimSpace(release))
	}
	return m
}

// field returns the value of the first line "name: value" of a file.
func field(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// memory writes a size in kB, as the kernel says it, in GB.
func memory(size string) string {
	var kb float64
	if _, err := fmt.Sscanf(size, "%f kB", &kb); err != nil {
		return size
	}
	return fmt.Sprintf("%.0f GB", kb*1024/1e9)
}

func (m Machine) String() string {
	cpu := m.CPU
	if cpu == "" {
		cpu = "CPU"
	}
	return fmt.Sprintf("%d × %s, %s, %s, %s", m.Cores, cpu, m.Memory, m.System, m.Go)
}

// Good reports whether all runs went through with nothing lost, duplicated or
// out of order.
func (r *Report) Good() bool {
	for i := range r.Results {
		if r.Results[i].Failed != "" || !r.Results[i].Good() {
			return false
		}
	}
	return true
}

// WriteJSON writes the report to a file.
func (r *Report) WriteJSON(path string) error {
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}

// Read reads the report of WriteJSON.
func Read(path string) (*Report, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(Report)
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("report: %s: %w", path, err)
	}
	return r, nil
}

// Add adds the results of another report.
func (r *Report) Add(other *Report) {
	known := make(map[string]bool)
	for _, a := range r.About {
		known[a.Name] = true
	}
	for _, a := range other.About {
		if !known[a.Name] {
			r.About = append(r.About, a)
		}
	}
	r.Results = append(r.Results, other.Results...)
	r.Quick = r.Quick || other.Quick
}
