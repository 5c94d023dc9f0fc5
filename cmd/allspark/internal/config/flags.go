package config

import (
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
)

// Flags are the flags of a command that takes a configuration. Embed it in the
// command's struct, give [Flags.Options] to kong, and call [Flags.Load] when
// the command runs.
//
// Kong finds the flags and shows their help, but what they say is kept as
// text, so that a bad value is reported together with all other problems.
type Flags struct {
	File   string `name:"config" placeholder:"FILE" help:"YAML file to read. Keys are the flags' names with _ for -. Each flag is an environment variable too: ALLSPARK_ and its key in capitals."`
	Target Config `embed:""`

	given map[string][]string // by name of the flag
}

// Options returns what kong needs to know about f.
func (f *Flags) Options() []kong.Option {
	f.given = make(map[string][]string)
	var opts []kong.Option
	for _, s := range table(&f.Target) {
		if !s.fileOnly() {
			opts = append(opts, kong.ValueMapper(s.value.Addr().Interface(), keeper(f.given)))
		}
	}
	return opts
}

// keeper is a kong.Mapper that keeps what flags were given.
type keeper map[string][]string

// Decode implements kong.Mapper.
func (k keeper) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	text := "true"
	if target.Kind() != reflect.Bool || ctx.Scan.Peek().Type == kong.FlagValueToken {
		t, err := ctx.Scan.PopValue("value")
		if err != nil {
			return err
		}
		text = t.String()
	}
	k[ctx.Value.Name] = append(k[ctx.Value.Name], text)
	return nil
}

// PlaceHolder implements kong.PlaceHolderProvider.
func (keeper) PlaceHolder(flag *kong.Flag) string {
	if initial := flag.Tag.Get("initial"); initial != "" {
		return initial
	}
	if flag.PlaceHolder != "" {
		return flag.PlaceHolder
	}
	return strings.ToUpper(flag.Name)
}
