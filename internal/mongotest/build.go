package mongotest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// build makes the stand-in and returns the path of its binary. Of several test
// binaries that ask at once, one builds and the others find the work done.
func build() (string, error) {
	source, err := standinDir()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "allspark-test")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(cache, "standin.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	binary := filepath.Join(cache, "standin")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	command := exec.Command("go", "build", "-C", source, "-o", binary, ".")
	// The stand-in is a module of its own.
	command.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", source, err, output)
	}
	return binary, nil
}

// standinDir finds the stand-in's source from the test's working directory,
// which is its package's folder.
func standinDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		standin := filepath.Join(dir, "internal", "standin")
		if _, err := os.Stat(filepath.Join(standin, "go.mod")); err == nil {
			return standin, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("internal/standin is in no folder above this one")
		}
		dir = parent
	}
}
