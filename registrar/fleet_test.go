package registrar

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each file of testdata/fleet says in its first line what LoadFleet has to say about it.
func TestLoadFleet(t *testing.T) {
	files, err := filepath.Glob("testdata/fleet/*.yaml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			first, _, _ := strings.Cut(readText(t, path), "\n")
			want, ok := strings.CutPrefix(first, "# want: ")
			if !ok {
				t.Fatal("the first line is not # want: …")
			}
			f, err := LoadFleet(path)
			warning, wantsWarning := strings.CutPrefix(want, "warning: ")
			switch {
			case want == "ok" && (err != nil || len(f.Warnings) > 0):
				t.Errorf("error %v, want a fleet without warnings", err)
			case wantsWarning && (err != nil || len(f.Warnings) != 1 || f.Warnings[0] != warning):
				t.Errorf("error %v, want the warning %q", err, warning)
			case want != "ok" && !wantsWarning && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("error %v, want %q", err, want)
			case err != nil && strings.Contains(err.Error(), "\n"):
				t.Errorf("error has more than one line: %q", err)
			}
		})
	}
}

func TestFleetIsExpanded(t *testing.T) {
	f := writeFleet(t, "http://127.0.0.1:1")
	var got []string
	for _, r := range f.Registrations {
		got = append(got, strings.Join([]string{r.Place.String(), r.CA, r.Mode, r.JITP + r.JITR, r.Access.Role, r.Access.ExternalID}, " "))
		if !r.Active || !r.AutoRegistration {
			t.Errorf("%s: not active with auto-registration", r.Place)
		}
	}
	want := `111111111111 eu-central-1 issuing DEFAULT sensor arn:aws:iam::111111111111:role/certmill-registrar certmill-demo
111111111111 us-east-1 issuing SNI_ONLY sensor arn:aws:iam::111111111111:role/certmill-registrar certmill-demo
222222222222 us-east-1 issuing SNI_ONLY sensor arn:aws:iam::222222222222:role/certmill-registrar certmill-demo
222222222222 us-west-2 issuing SNI_ONLY allow-list arn:aws:iam::222222222222:role/certmill-registrar certmill-demo`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

// An entry's own access replaces the file's, and keeps only its endpoint: a role must not go with another role's external id.
func TestAccessOfAnEntry(t *testing.T) {
	f, err := LoadFleet("testdata/fleet/ok-access-in-entry.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if a := f.Registrations[0].Access; a.Profile != "other" || a.Role != "" || a.ExternalID != "" || a.Endpoint != "http://127.0.0.1:1" {
		t.Errorf("access %+v", a)
	}
}

func TestPlaceholdersInTemplates(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"fleet.yaml": `{version: 1, registrations: [{ca: c, accounts: ["111111111111"], regions: [eu-west-1], mode: default, provisioning: {jitp: s}}],
  jitp: {s: {template: t.json, role: "arn:aws:iam::{account}:role/r"}}}`,
		"t.json": strings.Replace(readText(t, "testdata/sensor.json"), `"Status": "ACTIVE"`, `"Status": "ACTIVE"`, 1),
	} {
		if name == "t.json" {
			text = strings.Replace(text, `{"PolicyName": "certmill-device"}`, `{"PolicyName": "device-{account}-{region}"}`, 1)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := LoadFleet(filepath.Join(dir, "fleet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	w := f.template("s", f.Registrations[0].Place)
	if len(w.policies) != 1 || w.policies[0] != "device-111111111111-eu-west-1" || w.Role != "arn:aws:iam::111111111111:role/r" {
		t.Errorf("policies %v, role %s", w.policies, w.Role)
	}
}

// The hash is over everything that was read: a plan is stale when any of it changes.
func TestFleetHashCoversEveryFile(t *testing.T) {
	f := writeFleet(t, "http://127.0.0.1:1")
	hashes := map[string]string{f.Hash: "as it was"}
	for _, name := range []string{"fleet.yaml", "sensor.json", "external-id"} {
		path := filepath.Join(filepath.Dir(f.Path), name)
		old := readText(t, path)
		if err := os.WriteFile(path, []byte(strings.Replace(old, "demo", "demo2", 1)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		changed, err := LoadFleet(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		if same, ok := hashes[changed.Hash]; ok {
			t.Errorf("the hash after %s changed is that of the fleet %s", name, same)
		}
		hashes[changed.Hash] = "with another " + name
	}
}

func FuzzLoadFleet(f *testing.F) {
	files, err := filepath.Glob("testdata/fleet/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "fleet.yaml")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		fleet, err := LoadFleet(path)
		if err != nil {
			return
		}
		for _, r := range fleet.Registrations { // what was let through can be expanded
			if r.JITP != "" {
				fleet.template(r.JITP, r.Place)
			}
		}
	})
}
