package peers

import "testing"

// Reports tell targets apart by name, and people by title.
func TestNames(t *testing.T) {
	names, titles := make(map[string]bool), make(map[string]bool)
	for _, target := range All() {
		a := target.About()
		if a.Name == "" || a.Title == "" || names[a.Name] || titles[a.Title] {
			t.Errorf("%q, %q: empty or used twice", a.Name, a.Title)
		}
		names[a.Name], titles[a.Title] = true, true
	}
}
