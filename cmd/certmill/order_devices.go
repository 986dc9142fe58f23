package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/certmill/certmill/issuer"
)

// readDevices reads an order's list: .csv has a header with device_id and a column for each attribute, .jsonl an object of texts a line with
// the same names; any other file has one id a line, and lines that are blank or begin with # are left out.
func readDevices(s *issuer.OrderSpec, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fail(exitUsage, "check the path", "%w", err)
	}
	defer f.Close()
	list := deviceList{spec: s}
	r := bufio.NewReader(f)
	if mark, _ := r.Peek(3); string(mark) == "\ufeff" { // as spreadsheets write it
		r.Discard(3)
	}
	switch {
	case strings.HasSuffix(path, ".csv"):
		err = list.readCSV(r)
	case strings.HasSuffix(path, ".jsonl"), strings.HasSuffix(path, ".ndjson"):
		err = list.readLines(r, list.addObject)
	default:
		err = list.readLines(r, list.addID)
	}
	if err != nil {
		return fail(exitUsage, "one id a line; or .csv with a column device_id; or .jsonl with a field device_id", "%s, line %d: %w", path, list.line, err)
	}
	if len(s.Devices) == 0 {
		return fail(exitUsage, "write one device id a line", "%s names no device", path)
	}
	return nil
}

// deviceList fills a spec.
type deviceList struct {
	spec *issuer.OrderSpec
	line int // that is read now, from 1
}

func (l *deviceList) readLines(r io.Reader, add func(line string) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		l.line++
		if line := strings.TrimSpace(s.Text()); line != "" {
			if err := add(line); err != nil {
				return err
			}
		}
	}
	return s.Err()
}

func (l *deviceList) addID(line string) error {
	if !strings.HasPrefix(line, "#") {
		l.spec.Devices = append(l.spec.Devices, line)
	}
	return nil
}

func (l *deviceList) addObject(line string) error {
	var fields issuer.Attributes
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		return fmt.Errorf("not an object of texts: %w", err)
	}
	return l.add(fields)
}

// add takes a device with its attributes; one without a value is left out.
func (l *deviceList) add(fields issuer.Attributes) error {
	id := fields["device_id"]
	if id == "" {
		return errors.New("device_id is missing")
	}
	delete(fields, "device_id")
	for name, value := range fields {
		if value == "" {
			delete(fields, name)
		}
	}
	l.spec.Devices = append(l.spec.Devices, id)
	if len(fields) == 0 {
		return nil
	}
	if l.spec.Attributes == nil {
		l.spec.Attributes = make(map[string]issuer.Attributes)
	}
	if l.spec.Attributes[id] != nil {
		return fmt.Errorf("device %q stands twice", id)
	}
	l.spec.Attributes[id] = fields
	return nil
}

func (l *deviceList) readCSV(r io.Reader) error {
	c := csv.NewReader(r)
	header, err := c.Read()
	l.line = 1
	if err != nil {
		return fmt.Errorf("read the header: %w", err)
	}
	seen := make(map[string]bool)
	for _, name := range header {
		if seen[name] {
			return fmt.Errorf("column %q stands twice", name)
		}
		seen[name] = true
	}
	for {
		row, err := c.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		l.line++
		if err != nil {
			return err
		}
		fields := make(issuer.Attributes)
		for i, name := range header {
			fields[name] = row[i]
		}
		if err := l.add(fields); err != nil {
			return err
		}
	}
}
