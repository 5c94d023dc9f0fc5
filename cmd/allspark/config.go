package main

import "github.com/allsparkrt/allspark/cmd/allspark/internal/config"

// configCmd groups the commands about the configuration.
type configCmd struct {
	Print configPrintCmd `cmd:"" help:"Print the configuration that serve would run with: YAML with secrets masked, and where each value came from."`
}

type configPrintCmd struct {
	config.Flags
}

// Run prints the configuration, and then what is wrong with it.
func (c *configPrintCmd) Run(sys *system) error {
	loaded, problems := c.Load(sys.lookupEnv)
	if err := loaded.WriteYAML(sys.stdout); err != nil {
		return err
	}
	return problems
}
