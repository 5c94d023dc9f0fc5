package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// setting is one row of the table: a field of a struct with its names.
type setting struct {
	key   string // as in the file
	value reflect.Value
	tag   reflect.StructTag
}

// settings returns the rows of a struct in their order; v must be settable.
func settings(v reflect.Value) []setting {
	rows := make([]setting, 0, v.NumField())
	for field, value := range v.Fields() {
		key := strings.ReplaceAll(field.Tag.Get("name"), "-", "_")
		rows = append(rows, setting{key, value, field.Tag})
	}
	return rows
}

func table(c *Config) []setting { return rowsOf(c) }

// rowsOf returns the rows of the struct that p points to.
func rowsOf(p any) []setting { return settings(reflect.ValueOf(p).Elem()) }

func (s setting) flag() string { return s.tag.Get("name") }

func (s setting) env() string { return "ALLSPARK_" + strings.ToUpper(s.key) }

// fileOnly reports whether the setting has a shape that only a file can give.
func (s setting) fileOnly() bool { return s.tag.Get("kong") == "-" }

// isTable reports whether the setting is a list whose items have rows of their own.
func (s setting) isTable() bool { return s.isList() && s.value.Type().Elem().Kind() == reflect.Struct }

// item returns the rows of one of them.
func (s setting) item(i int) []setting { return settings(s.value.Index(i)) }

func (s setting) isList() bool { return s.value.Kind() == reflect.Slice }

func (s setting) has(tag string) bool {
	_, ok := s.tag.Lookup(tag)
	return ok
}

// parse sets the value from text.
func (s setting) parse(text string) error {
	switch p := s.value.Addr().Interface().(type) {
	case *string:
		*p = text
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		*p = n
	case *bool:
		switch text {
		case "true", "false":
			*p = text == "true"
		default:
			return fmt.Errorf("%q is neither true nor false", text)
		}
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 20s or 1m30s", text)
		}
		*p = d
	case *[]string:
		return s.parseList(strings.Split(text, ","))
	}
	return nil
}

// parseList sets a list from its items. Items are trimmed; empty ones count for nothing.
func (s setting) parseList(items []string) error {
	var list []string
	for _, item := range items {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	s.value.Set(reflect.ValueOf(list))
	return nil
}
