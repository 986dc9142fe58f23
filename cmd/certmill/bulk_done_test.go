package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A reject of a batch that a crash cut off may stand before rejects of earlier lines: those of the run that went on.
func TestRejectsOutOfOrder(t *testing.T) {
	for _, tt := range []struct {
		rejects []int
		answers int
		lines   int
		want    string // of the lines, those that are asked again
	}{
		{nil, 0, 3, "1 2 3"},
		{[]int{2}, 2, 5, "4 5"},
		{[]int{50, 150}, 99, 153, "101 102 103 104 105 106 107 108 109 110"}, // … : certificates up to line 100 were written
		{[]int{3, 9, 5, 4, 11}, 4, 12, "8 10 12"},
	} {
		dir := t.TempDir()
		out, rejects := filepath.Join(dir, "out"), filepath.Join(dir, "rejects")
		var text strings.Builder
		for _, n := range tt.rejects {
			fmt.Fprintf(&text, `{"line":%d,"status":409}`+"\n", n)
		}
		put(t, rejects, text.String()+`{"line":7,"sta`) // torn
		put(t, out, strings.Repeat(`{"status":200}`+"\n", tt.answers))
		d := done(t, out, rejects)
		if int(d.rejects) != len(tt.rejects) || int(d.lines) != tt.answers+len(tt.rejects) {
			t.Errorf("%v: counts %+v", tt.rejects, d)
		}
		var asked []string
		for line := 1; line <= tt.lines && len(asked) < 10; line++ {
			was, err := d.has(line)
			if err != nil {
				t.Fatal(err)
			}
			if !was {
				asked = append(asked, fmt.Sprint(line))
			}
		}
		if got := strings.Join(asked, " "); got != tt.want {
			t.Errorf("%v: asks again %s, want %s", tt.rejects, got, tt.want)
		}
	}
}

// The outputs of another input are not gone on with.
func TestRejectsOfAnotherInput(t *testing.T) {
	dir := t.TempDir()
	out, rejects := filepath.Join(dir, "out"), filepath.Join(dir, "rejects")
	put(t, out, "")
	put(t, rejects, `{"line":3,"status":409}`+"\n")
	if _, err := done(t, out, rejects).has(4); err == nil {
		t.Error("line 3 was refused, and the input has none")
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), modePublic); err != nil {
		t.Fatal(err)
	}
}

func done(t *testing.T, out, rejects string) *bulkDone {
	t.Helper()
	var files []*os.File
	for _, name := range []string{out, rejects, rejects} {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		files = append(files, f)
	}
	d, err := readDone(files[0], files[1])
	if err == nil {
		err = d.follow(files[2])
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}
