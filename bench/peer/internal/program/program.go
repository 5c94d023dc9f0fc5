// Package program finds the programs of peers and asks for their versions.
package program

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/allsparkrt/allspark/bench/process"
)

// Find returns the path of a program: from PATH, from where `go install` puts
// programs, or from where Debian keeps servers.
func Find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{os.Getenv("GOBIN"), goBin(), "/usr/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); dir != "" && err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("program: %w (bench/peers.sh installs what a package registry has)", err)
}

// goBin is the default of GOBIN.
func goBin() string {
	if path := filepath.SplitList(os.Getenv("GOPATH")); len(path) > 0 {
		return filepath.Join(path[0], "bin")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, "go", "bin")
}

var version = regexp.MustCompile(`\d+\.\d+[0-9A-Za-z.+-]*`)

// Version returns the first thing that looks like a version in what a program
// prints, whatever its exit status; "unknown" without one.
func Version(ctx context.Context, program string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, program, args...).CombinedOutput() // mosquitto -h ends with 3
	if v := version.Find(out); v != nil {
		return string(v)
	}
	return "unknown"
}

// Addresses returns n addresses on this machine on which nobody listens at the
// moment.
func Addresses(n int) ([]string, error) {
	ports, err := process.FreePorts(n)
	if err != nil {
		return nil, err
	}
	addresses := make([]string, n)
	for i, port := range ports {
		addresses[i] = Local(port)
	}
	return addresses, nil
}

// Local returns the address of a port on this machine.
func Local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
