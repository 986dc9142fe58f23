package registrar

import (
	"bytes"
	"fmt"
	"io"
	"text/tabwriter"
)

// WriteText writes a plan for people: what would be done, place by place, and what stands against it.
func (p *Plan) WriteText(w io.Writer) error {
	var b bytes.Buffer
	for _, o := range p.Overrides {
		fmt.Fprintf(&b, "endpoint override: %s is asked instead of AWS\n\n", o)
	}
	p.writeActions(&b)
	p.writeFindings(&b)
	fmt.Fprintf(&b, "%s, %s, %d not made\n", count(len(p.Actions), "action", "actions"), count(len(p.BrokenRules), "broken rule", "broken rules"), len(p.NotMade))
	_, err := w.Write(b.Bytes())
	return err
}

// WriteFindings writes only what a plan has to say beside its actions.
func (p *Plan) WriteFindings(w io.Writer) error {
	var b bytes.Buffer
	p.writeFindings(&b)
	_, err := w.Write(b.Bytes())
	return err
}

func (p *Plan) writeFindings(b *bytes.Buffer) {
	for _, section := range []struct {
		title    string
		findings []Finding
	}{
		{"broken rules: nothing is done while there is one", p.BrokenRules},
		{"unreachable: nothing is known of", p.Unreachable},
		{"not made", p.NotMade},
		{"unknown", p.Unknown},
		{"notes", p.Notes},
	} {
		writeSection(b, section.title, section.findings)
	}
}

func (p *Plan) writeActions(b *bytes.Buffer) {
	var last Place
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, a := range p.Actions {
		if a.Place != last {
			table.Flush() // a column is as wide as its place needs
			fmt.Fprintln(b, a.Place)
			last = a.Place
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\n", a.Verb, a.Object, a.Why)
	}
	table.Flush()
	if len(p.Actions) > 0 {
		b.WriteByte('\n')
	}
}

func writeSection(b *bytes.Buffer, title string, findings []Finding) {
	if len(findings) == 0 {
		return
	}
	fmt.Fprintln(b, title)
	for _, f := range findings {
		b.WriteString("  ")
		for _, part := range []string{f.Place.String(), f.Object} {
			if part != "" {
				b.WriteString(part + ": ")
			}
		}
		b.WriteString(f.Reason)
		if f.Rule != "" {
			b.WriteString(" (rule " + f.Rule + ")")
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
}

// WriteText writes how a run of Apply ended: each place with what failed there, and a last line with the counts.
func (r *Report) WriteText(w io.Writer) error {
	var b bytes.Buffer
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, o := range r.Outcomes {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", o.Place, o.Verb, o.Object, o.Result, o.Reason)
	}
	table.Flush()
	fmt.Fprintf(&b, "%d done, %d there already, %d not made, %d failed, %d not tried or unknown\n",
		r.Count(Done), r.Count(Already), r.Count(NotMade), r.Count(Failed), r.Count(NotTried, Uncertain))
	_, err := w.Write(b.Bytes())
	return err
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
