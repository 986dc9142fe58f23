package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/issuer/client"
)

// TestSpoolThroughOutage asks for three devices while the service is away; one of the askers is killed. When it is back, --replay answers all of them in order,
// and asking again takes the late answer out of the spool. Nothing is issued twice.
func TestSpoolThroughOutage(t *testing.T) {
	p := newTestPlant(t)
	s := p.serve()
	p.station("line-1")
	order := p.order(10)
	dir := t.TempDir()
	station := filepath.Join(p.dir, "stations/line-1/station.yaml")
	text, err := os.ReadFile(station)
	if err != nil {
		t.Fatal(err)
	}
	put(t, station, string(text)+"spool: open\n") // beside station.yaml
	spool := filepath.Join(p.dir, "stations/line-1/open")
	issue := func(id string) []string {
		return []string{"issue", "-c", station, "--order", order, "--device", id, "--csr", filepath.Join(dir, id+".csr"), "--wait", "300ms",
			"--out", filepath.Join(dir, id+".pem")}
	}
	s.kill()
	for _, id := range []string{"OUT-2", "OUT-1"} {
		p.run("keygen", "--csr", "--device", id, "--out", dir)
		if code, _, talk := p.try(issue(id)...); code != exitTryAgain || !strings.Contains(talk, "kept in "+spool) {
			t.Fatalf("%s while the service is away: exit %d\n%s", id, code, talk)
		}
	}
	put(t, filepath.Join(dir, "OUT-3.csr"), newCSR(t, "OUT-3"))
	c := command(t, append(issue("OUT-3"), "--wait", "1m")...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, waitLimit, func() error { return wantFiles(filepath.Join(spool, "waiting"), 3) }, &lockedBuffer{})
	c.Process.Kill()
	c.Wait()

	p.serve()
	var all []client.Spooled
	if err := json.Unmarshal([]byte(p.run("issue", "-c", station, "--replay", "-o", "json")), &all); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range all {
		got = append(got, a.Request.DeviceID+" "+number(uint64(a.Line.Status)))
	}
	if want := "OUT-2 201, OUT-1 201, OUT-3 201"; strings.Join(got, ", ") != want {
		t.Errorf("the spool has %v, want %s", got, want)
	}
	for _, id := range []string{"OUT-1", "OUT-3"} {
		p.run(issue(id)...)
	}
	if cert, err := os.ReadFile(filepath.Join(dir, "OUT-1.pem")); err != nil || string(cert) != all[1].Line.Answer.Certificate {
		t.Errorf("OUT-1 has another certificate than the late answer, %v", err)
	}
	if err := wantFiles(filepath.Join(spool, "answered"), 1); err != nil {
		t.Error(err)
	}
	// A refusal is kept too, and said.
	p.run("keygen", "--csr", "--device", "OUT-1", "--out", filepath.Join(dir, "other"))
	args := issue("OUT-1")
	args[8], args[12] = filepath.Join(dir, "other/OUT-1.csr"), filepath.Join(dir, "other/OUT-1.pem")
	if code, _, talk := p.try(args...); code != exitFailed || !strings.Contains(talk, client.CodeDeviceHasCertificate) {
		t.Errorf("another key: exit %d\n%s", code, talk)
	}
	if code, out, _ := p.try("issue", "-c", station, "--replay"); code != exitPartly || !strings.Contains(out, client.CodeDeviceHasCertificate) {
		t.Errorf("--replay with a refusal: exit %d\n%s", code, out)
	}
	if code, _, talk := p.try("issue", "-c", filepath.Join(p.dir, "certmill.yaml"), "--spool", dir+"/none/\x00", "--replay"); code != exitUsage {
		t.Errorf("a folder that cannot be: exit %d\n%s", code, talk)
	}
	a := p.admin()
	defer a.Close()
	if o, err := a.Order(t.Context(), order); err != nil || o.Issued != 3 {
		t.Errorf("the order counts %d, want 3, %v", o.Issued, err)
	}
}

// TestReplayKilled kills --replay again and again: in the end every request has one answer, in the order in which they were asked.
func TestReplayKilled(t *testing.T) {
	const devices = 60
	p := newTestPlant(t)
	p.serve()
	p.station("line-1")
	order := p.order(devices)
	dir := t.TempDir()
	s, err := client.OpenSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range devices {
		id := fmt.Sprintf("KILL-%d", i)
		if _, err := s.Add(order, client.Request{DeviceID: id, CSR: newCSR(t, id)}); err != nil {
			t.Fatal(err)
		}
	}
	kills := killUntilDone(t, filepath.Join(dir, "never"), "issue", "-c", filepath.Join(p.dir, "stations/line-1/station.yaml"), "--spool", dir, "--replay")
	left, err := s.Waiting()
	if err != nil || len(left) != 0 {
		t.Errorf("%d still wait, %v", len(left), err)
	}
	all, err := s.Answered()
	if err != nil || len(all) != devices {
		t.Fatalf("%d answers, want %d, %v", len(all), devices, err)
	}
	for i, a := range all {
		if want := fmt.Sprintf("KILL-%d", i); a.Line.Answer.DeviceID != want || a.Line.Answer.Certificate == "" {
			t.Errorf("answer %d is for %s, want %s", i, a.Line.Answer.DeviceID, want)
		}
	}
	a := p.admin()
	defer a.Close()
	if o, err := a.Order(t.Context(), order); err != nil || o.Issued != devices {
		t.Errorf("the order counts %d, want %d, %v", o.Issued, devices, err)
	}
	t.Logf("%d requests, %d kills", devices, kills)
}

// waitLimit is how long a test waits for a process on a busy machine.
const waitLimit = 20 * time.Second

func wantFiles(dir string, want int) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err == nil && len(files) != want {
		err = fmt.Errorf("%s has %d files, want %d", dir, len(files), want)
	}
	return err
}
