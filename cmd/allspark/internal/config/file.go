package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"

	"go.yaml.in/yaml/v3"
)

var (
	errNotSingle = errors.New("must be a single value")
	errNotList   = errors.New("must be a list")
	errUnknown   = errors.New("unknown key")
	errTwice     = errors.New("given twice")
)

// readFile takes the values of the YAML file at path. An unknown key is a
// problem: a misspelled one must not leave a default in force.
func (l *Loaded) readFile(path, source string) {
	f, err := os.Open(path)
	if err != nil {
		l.problems = append(l.problems, Problem{"config", source, err.Error()})
		return
	}
	defer f.Close()
	dec := yaml.NewDecoder(f)
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF): // nothing in it
		return
	case err != nil:
		l.problems = append(l.problems, Problem{"config", source, path + ": " + err.Error()})
		return
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		l.problems = append(l.problems, Problem{"config", source, path + ": holds more than one document"})
		return
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		l.problems = append(l.problems, Problem{"config", source, path + ": must hold keys with values"})
		return
	}
	l.readMapping(path, "", root, table(&l.Config))
}

// readMapping takes the values of a mapping for the rows of one struct.
func (l *Loaded) readMapping(path, prefix string, mapping *yaml.Node, rows []setting) {
	byKey := make(map[string]setting, len(rows))
	for _, s := range rows {
		byKey[s.key] = s
	}
	seen := make(map[string]bool)
	for i := 0; i < len(mapping.Content); i += 2 {
		name, value := mapping.Content[i], mapping.Content[i+1]
		s, known := byKey[name.Value]
		s.key = prefix + name.Value
		source := fmt.Sprintf("%s:%d", path, name.Line)
		switch {
		case !known:
			l.take(s, source, errUnknown)
		case seen[name.Value]:
			l.take(s, source, errTwice)
		case s.isTable():
			l.readTable(path, s, source, value)
		case s.value.Type() == reflect.TypeFor[PushText]():
			l.readPushText(path, s, source, value)
		default:
			l.take(s, source, s.decode(value))
		}
		seen[name.Value] = true
	}
}

func (l *Loaded) readTable(path string, s setting, source string, list *yaml.Node) {
	if list.Kind != yaml.SequenceNode {
		l.take(s, source, errNotList)
		return
	}
	l.take(s, source, nil)
	s.value.Set(reflect.MakeSlice(s.value.Type(), len(list.Content), len(list.Content)))
	for i, item := range list.Content {
		key := fmt.Sprintf("%s[%d]", s.key, i)
		if item.Kind != yaml.MappingNode {
			l.take(setting{key: key}, fmt.Sprintf("%s:%d", path, item.Line), errors.New("must hold keys with values"))
			continue
		}
		rows := s.item(i)
		l.readMapping(path, key+".", item, rows)
		l.fillSecrets(key+".", rows)
	}
}

// decode sets a value from its YAML form: one scalar, or a list of them. All
// scalars are read by their text, so that "node_id: 007" is 007.
func (s setting) decode(node *yaml.Node) error {
	if !s.isList() {
		if !isScalar(node) {
			return errNotSingle
		}
		return s.parse(node.Value)
	}
	if node.Kind != yaml.SequenceNode {
		return errNotList
	}
	items := make([]string, len(node.Content))
	for i, item := range node.Content {
		if !isScalar(item) {
			return errors.New("must be a list of single values")
		}
		items[i] = item.Value
	}
	return s.parseList(items)
}

func isScalar(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.Tag != "!!null"
}
