package config

import "strings"

// Problem is one thing wrong with a configuration. It never shows the value
// of a secret.
type Problem struct {
	Key    string // as in the file
	Source string // where the value came from: a flag, a variable, FILE:LINE; "" nowhere
	Text   string
}

// Error implements error.
func (p Problem) Error() string {
	s := p.Key
	if p.Source != "" {
		s += " (" + p.Source + ")"
	}
	return s + ": " + p.Text
}

// Problems is all that is wrong with a configuration.
type Problems []Problem

// Error implements error, with a line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}
