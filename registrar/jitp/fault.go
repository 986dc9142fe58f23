package jitp

import "fmt"

// Fault says what is wrong with a template, and where.
type Fault struct {
	Path   string // as "Resources.thing.Properties.ThingName"; "" is the whole template
	Rule   string // the rule that is broken, as "PT-26"; "" where the rule is certmill's own
	Reason string
}

// Error gives path, reason and rule on one line.
func (f *Fault) Error() string {
	s := f.Reason
	if f.Path != "" {
		s = f.Path + ": " + s
	}
	if f.Rule != "" {
		s += " (" + f.Rule + ")"
	}
	return s
}

func fault(path, rule, format string, args ...any) error {
	return &Fault{Path: path, Rule: rule, Reason: fmt.Sprintf(format, args...)}
}
