package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"
)

// Output formats of -o.
const (
	asTable = "table"
	asJSON  = "json"
	asJSONL = "jsonl"
)

// checkOutput refuses an unknown -o before any work is done.
func (e *env) checkOutput() error {
	switch e.output {
	case asTable, asJSON, asJSONL:
		return nil
	}
	return fail(exitUsage, "use -o table, -o json or -o jsonl", "output format %q is not known", e.output)
}

// printList prints items in the asked format: a table, one JSON array, or a JSON object a line.
func printList[T any](e *env, items []T, header string, row func(T) []string) error {
	switch e.output {
	case asJSON:
		if items == nil {
			items = []T{} // [] and not null
		}
		return e.printJSON(items)
	case asJSONL:
		enc := json.NewEncoder(e.stdout)
		for _, it := range items {
			if err := enc.Encode(it); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(header, " ", "\t"))
	for _, it := range items {
		fmt.Fprintln(w, strings.Join(row(it), "\t"))
	}
	return w.Flush()
}

// printOne prints one object: text for people, JSON for programs.
func (e *env) printOne(v any, text string) error {
	switch e.output {
	case asJSON:
		return e.printJSON(v)
	case asJSONL:
		return json.NewEncoder(e.stdout).Encode(v)
	}
	_, err := fmt.Fprintln(e.stdout, strings.TrimRight(text, "\n"))
	return err
}

func (e *env) printJSON(v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// talk says something to the person at the terminal; it is not data.
func (e *env) talk(format string, args ...any) {
	fmt.Fprintf(e.stderr, format+"\n", args...)
}

// interactive reports whether stderr is a terminal: progress bars are drawn only there.
func (e *env) interactive() bool {
	f, ok := e.stderr.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// sortedKeys are a map's keys in the order in which people look for them.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
