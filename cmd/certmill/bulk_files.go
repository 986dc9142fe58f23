package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/certmill/certmill/issuer/client"
)

// A bulk run reads one request a line and writes one answer a line, in the same order: certificates to --out, problems to --rejects
// (or to --out as well). After a crash the outputs hold a prefix of the answers; what is missing is asked for again, which is safe,
// because the same request always gets the same certificate.

// bulkInput yields the requests of a JSONL or CSV file, one at a time: memory stays flat.
type bulkInput struct {
	line int // of the request that next returned last, from 1; CSV's header is line 1
	next func() (client.Request, error)
}

// countLines is about how many requests a file holds; 0 where only reading it would tell.
func countLines(f *os.File) (n int64, err error) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0, err
	}
	for buf := make([]byte, 1<<20); err == nil; {
		var got int
		got, err = f.Read(buf)
		n += int64(bytes.Count(buf[:got], []byte{'\n'}))
	}
	if errors.Is(err, io.EOF) {
		_, err = f.Seek(0, io.SeekStart)
	}
	return n, err
}

// openBulk decides by the name: .csv has a header with device_id, csr (inline) or csr_file, and optionally client_ref and slot.
func openBulk(name string, file io.Reader) (*bulkInput, error) {
	r := bufio.NewReaderSize(file, client.MaxLine+2)
	if mark, _ := r.Peek(3); string(mark) == "\ufeff" { // as spreadsheets write it
		r.Discard(3)
	}
	if strings.HasSuffix(name, ".csv") {
		return openCSV(name, r)
	}
	in := &bulkInput{}
	in.next = func() (req client.Request, err error) {
		for {
			line, err := r.ReadSlice('\n')
			if errors.Is(err, io.EOF) && len(line) == 0 {
				return req, io.EOF
			}
			in.line++
			if errors.Is(err, bufio.ErrBufferFull) {
				for errors.Is(err, bufio.ErrBufferFull) {
					_, err = r.ReadSlice('\n')
				}
				if err == nil || errors.Is(err, io.EOF) {
					return req, errLongRequest
				}
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return req, fatalError{err}
			}
			if text := bytes.TrimSpace(line); len(text) > 0 {
				return req, decodeRequest(text, &req)
			}
		}
	}
	return in, nil
}

var errLongRequest = fmt.Errorf("the request has more than %d bytes", client.MaxLine)

func decodeRequest(text []byte, req *client.Request) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(req); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

func openCSV(name string, r io.Reader) (*bulkInput, error) {
	c := csv.NewReader(r)
	c.ReuseRecord = true
	header, err := c.Read()
	if err != nil {
		return nil, fail(exitUsage, "its first line names the columns: device_id,csr_file", "%s: read the header: %w", name, err)
	}
	column := make(map[string]int, len(header))
	for i, h := range header {
		switch h {
		case "device_id", "csr", "csr_file", "client_ref", "slot":
			column[h] = i
		default:
			return nil, fail(exitUsage, "columns are device_id, csr, csr_file, client_ref, slot", "%s: column %q is not known", name, h)
		}
	}
	in := &bulkInput{}
	in.next = func() (req client.Request, err error) {
		record, err := c.Read()
		var bad *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return req, io.EOF
		case errors.As(err, &bad):
			in.line = bad.StartLine
			return req, err
		case err != nil:
			return req, fatalError{err}
		}
		in.line, _ = c.FieldPos(0)
		get := func(name string) string {
			if i, ok := column[name]; ok {
				return strings.Clone(record[i])
			}
			return ""
		}
		req = client.Request{DeviceID: get("device_id"), CSR: get("csr"), ClientRef: get("client_ref"), Slot: get("slot")}
		if file := get("csr_file"); file != "" {
			if !filepath.IsAbs(file) {
				file = filepath.Join(filepath.Dir(name), file)
			}
			data, err := os.ReadFile(file)
			req.CSR = string(data)
			return req, err
		}
		return req, nil
	}
	return in, nil
}

// fatalError ends the run; any other error of next is the reject of one line.
type fatalError struct{ error }
