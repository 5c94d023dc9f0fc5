package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
	"github.com/allsparkrt/allspark/cmd/allspark/internal/doctor"
)

// doctorCmd looks at the machine and the configuration.
type doctorCmd struct {
	config.Flags
	JSON bool `name:"json" help:"Print JSON."`
}

// Run prints what it has found, the worst first, and fails when something of it will hurt.
func (c *doctorCmd) Run(ctx context.Context, sys *system) error {
	loaded, err := c.Load(sys.lookupEnv)
	problems, ok := errors.AsType[config.Problems](err)
	if err != nil && !ok {
		return err
	}
	findings := doctor.Examine(doctor.Read(ctx, loaded.Config, problems))
	if c.JSON {
		err = json.NewEncoder(sys.stdout).Encode(findings)
	} else {
		err = printFindings(sys.stdout, findings)
	}
	if err != nil {
		return err
	}
	bad := 0
	for _, f := range findings {
		if f.Level == doctor.Problem {
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("problems: %d", bad)
	}
	return nil
}

// printFindings prints a line for each finding, and below it why it matters and what to do.
func printFindings(w io.Writer, findings []doctor.Finding) error {
	const line = "%-8s %-18s %s\n"
	for _, f := range findings {
		if _, err := fmt.Fprintf(w, line, f.Level, f.Check, f.Found); err != nil {
			return err
		}
		for _, more := range []struct{ sign, text string }{{"", f.Why}, {"→ ", f.Do}} {
			if more.text != "" {
				fmt.Fprintf(w, line, "", "", more.sign+more.text)
			}
		}
	}
	return nil
}
