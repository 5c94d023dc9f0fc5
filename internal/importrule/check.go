package importrule

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// Check returns one line for each import below root, the folder of a module,
// that the rules do not allow. Folders that the Go tool passes over, and
// modules inside the module, are not looked at.
func Check(root fs.FS, module string, rules []Rule) (violations []string, err error) {
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if name != "." && skipped(root, name) {
				return fs.SkipDir
			}
			return nil
		case path.Ext(name) != ".go":
			return nil
		}
		source, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if why := refusal(module, rules, name, imported); why != "" {
				violations = append(violations, fmt.Sprintf("%s imports %s: %s", name, imported, why))
			}
		}
		return nil
	})
	return violations, err
}

// skipped reports whether the folder is none of the module's packages.
func skipped(root fs.FS, dir string) bool {
	base := path.Base(dir)
	if base == "testdata" || base == "node_modules" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return true
	}
	_, err := fs.Stat(root, path.Join(dir, "go.mod"))
	return err == nil
}

// refusal returns why the file may not import it, or "".
func refusal(module string, rules []Rule, file, imported string) string {
	pkg := path.Dir(file)
	rule := ruleFor(rules, pkg)
	if rule == nil {
		return "no rule for package " + pkg
	}
	if imported != module && !strings.HasPrefix(imported, module+"/") {
		return rule.refuseOutside(imported)
	}
	target := strings.TrimPrefix(strings.TrimPrefix(imported, module), "/")
	isTest := strings.HasSuffix(file, "_test.go")
	switch {
	case isTest && target == pkg: // its own package, from outside
	case matchesAny(rule.May, target):
	case isTest && matchesAny(rule.Tests, target):
	case ruleFor(rules, target) == nil:
		return "no rule for package " + target
	default:
		return "not allowed: " + rule.Why
	}
	return ""
}

func (r *Rule) refuseOutside(imported string) string {
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return "" // standard library
	}
	if r.Outside != nil && !matchesAny(r.Outside, imported) || matchesAny(r.Never, imported) {
		return "not allowed: " + r.Why
	}
	return ""
}

// ruleFor returns the first rule for a package, or nil.
func ruleFor(rules []Rule, pkg string) *Rule {
	for i := range rules {
		if matches(rules[i].Package, pkg) {
			return &rules[i]
		}
	}
	return nil
}

func matchesAny(patterns []string, pkg string) bool {
	for _, p := range patterns {
		if matches(p, pkg) {
			return true
		}
	}
	return false
}

func matches(pattern, pkg string) bool {
	if isCmd(pkg) && !isCmd(pattern) {
		return false
	}
	if prefix, ok := strings.CutSuffix(pattern, "..."); ok {
		return strings.HasPrefix(pkg+"/", prefix)
	}
	ok, err := path.Match(pattern, pkg)
	return ok && err == nil
}

func isCmd(s string) bool { return s == "cmd" || strings.HasPrefix(s, "cmd/") }
