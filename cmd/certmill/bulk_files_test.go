package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certmill/certmill/issuer/client"
)

// TestBulkInput reads files as people make them: a line that cannot be read is a reject with its number, and the lines behind it are read.
func TestBulkInput(t *testing.T) {
	long := `{"device_id":"D-1","csr":"` + strings.Repeat("A", client.MaxLine) + `"}`
	for _, tt := range []struct{ what, name, text, want string }{
		{"no newline at the end", "in.jsonl", "{\"device_id\":\"D-1\"}\n{\"device_id\":\"D-2\"}", "1 D-1, 2 D-2"},
		{"blank lines, CR LF, byte order mark", "in.jsonl", "\ufeff{\"device_id\":\"D-1\"}\r\n\r\n \n{\"device_id\":\"D-2\"}\r\n", "1 D-1, 4 D-2"},
		{"something behind the object", "in.jsonl", "{\"device_id\":\"D-1\"} {\"device_id\":\"D-2\"}\n{\"device_id\":\"D-3\"}", "1 reject, 2 D-3"},
		{"too long", "in.jsonl", long + "\n{\"device_id\":\"D-2\"}\n" + long, "1 reject, 2 D-2, 3 reject"},
		{"no object, unknown key, cut off", "in.jsonl", "[]\n{\"id\":\"D-2\"}\n{\"device_id\":\n{\"device_id\":\"D-4\"}\n", "1 reject, 2 reject, 3 reject, 4 D-4"},
		{"CSV of a spreadsheet", "in.csv", "\ufeffdevice_id,csr\r\nD-1,x\r\n", "2 D-1"},
		{"CSV of several lines, and of wrong width", "in.csv", "device_id,csr\nD-1,\"x\ny\"\nD-2\nD-3,x\n", "2 D-1, 4 reject, 5 D-3"},
	} {
		in, err := openBulk(tt.name, strings.NewReader(tt.text))
		if err != nil {
			t.Fatalf("%s: %v", tt.what, err)
		}
		var got []string
		for {
			r, err := in.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				r.DeviceID = "reject"
			}
			got = append(got, fmt.Sprint(in.line, " ", r.DeviceID))
		}
		if strings.Join(got, ", ") != tt.want {
			t.Errorf("%s: got %v, want %s", tt.what, got, tt.want)
		}
	}
}

// --resume with the name of somebody else's file cut off its last line where that had no newline.
func TestResumeLeavesOtherFilesAlone(t *testing.T) {
	for _, text := range []string{"{\"device_id\":\"D-1\"}", "{\"device_id\":\"D-1\"}\nrest", "{\"status\":200}\nrest", "text\n"} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(text), modePublic); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := readDone(f, nil); err == nil {
			t.Errorf("%q is taken for an output", text)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != text {
			t.Errorf("%q became %q, %v", text, now, err)
		}
	}
}
