package config

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const masked = "***"

// WriteYAML writes the effective configuration as a file for --config, with
// secrets masked and the source of each value as a comment.
func (l *Loaded) WriteYAML(w io.Writer) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(l.mapping("", table(&l.Config))); err != nil {
		return err
	}
	return enc.Close()
}

// mapping returns the rows as YAML. Of an item of a list, only what is given is shown.
func (l *Loaded) mapping(prefix string, rows []setting) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, s := range rows {
		if prefix != "" && s.value.IsZero() {
			continue
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: s.key}
		value := l.node(s)
		source := cmp.Or(l.sources[prefix+s.key], "default")
		// A comment behind a list would end up behind its last item.
		if len(value.Content) > 0 {
			key.HeadComment = source
		} else {
			value.LineComment = source
		}
		m.Content = append(m.Content, key, value)
	}
	return m
}

func (l *Loaded) node(s setting) *yaml.Node {
	node := &yaml.Node{}
	switch v := s.value.Interface().(type) {
	case PushText:
		node.Kind = yaml.MappingNode
		for _, locale := range slices.Sorted(maps.Keys(v)) {
			words := v[locale]
			node.Content = append(node.Content,
				&yaml.Node{Kind: yaml.ScalarNode, Value: locale}, l.mapping("push_text."+locale+".", rowsOf(&words)))
		}
	case string:
		node.SetString(shown(s, v))
	default:
		if !s.isTable() {
			// Encoding a number, a bool, a duration or a list of strings cannot fail.
			_ = node.Encode(v)
			break
		}
		node.Kind = yaml.SequenceNode
		for i := range s.value.Len() {
			node.Content = append(node.Content, l.mapping(fmt.Sprintf("%s[%d].", s.key, i), s.item(i)))
		}
	}
	if node.Kind != yaml.ScalarNode && len(node.Content) == 0 {
		node.Style = yaml.FlowStyle
	}
	return node
}

// shown returns the text that may be shown of a value.
func shown(s setting, text string) string {
	switch {
	case text == "":
		return ""
	case s.has("secret"):
		return masked
	case s.has("url"):
		return MaskURL(text)
	}
	return text
}

var (
	userinfo    = regexp.MustCompile(`(://[^:/@]*):.*@`)
	secretParam = regexp.MustCompile(`(?i)([?&][^=&]*(?:password|secret|token|key|authmechanismproperties)[^=&]*=)[^&]*`)
)

// MaskURL returns a URL without its password and without the values of query
// parameters that look secret. It also takes what net/url refuses, such as a
// MongoDB URI with several hosts; in doubt it masks too much.
func MaskURL(u string) string {
	if strings.Contains(u, "@") && !strings.Contains(u, "://") {
		return masked
	}
	u = userinfo.ReplaceAllString(u, "${1}:"+masked+"@")
	return secretParam.ReplaceAllString(u, "${1}"+masked)
}
