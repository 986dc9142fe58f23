package registrar

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
)

// savedPlan plans, saves and reads back.
func savedPlan(t *testing.T, r *Registrar) (*Plan, []byte) {
	t.Helper()
	data, err := mustPlan(t, r).Save()
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePlan(data)
	if err != nil {
		t.Fatal(err)
	}
	return p, data
}

// A saved plan is the consent: what it says is covered by its hash. How it is laid out is not: -o jsonl, or jq, writes it on one line,
// which was refused as a change.
func TestParsePlan(t *testing.T) {
	r := newTestRegistrar(t, writeFleet(t, startSim(t).Endpoint()), newTestCA(t))
	_, data := savedPlan(t, r)
	var line bytes.Buffer
	if err := json.Compact(&line, data); err != nil {
		t.Fatal(err)
	}
	if _, err := ParsePlan(line.Bytes()); err != nil {
		t.Errorf("on one line: %v", err)
	}
	for name, bad := range map[string][]byte{
		"empty":         nil,
		"other content": bytes.Replace(data, []byte("SNI_ONLY"), []byte("DEFAULT"), 1),
		"other region":  bytes.Replace(data, []byte("us-west-2"), []byte("us-west-1"), 1),
		"new member":    bytes.Replace(data, []byte("{"), []byte(`{"x":1,`), 1),
		"two plans":     append(bytes.Clone(data), data...),
	} {
		if _, err := ParsePlan(bad); !errors.Is(err, ErrNotAPlan) {
			t.Errorf("%s: %v, want ErrNotAPlan", name, err)
		}
	}
}

// A saved plan goes on after its own work, and is stale after somebody else's, or when the fleet file says something else.
func TestRecheck(t *testing.T) {
	sim, ca := startSim(t), newTestCA(t)
	f := writeFleet(t, sim.Endpoint())
	r := newTestRegistrar(t, f, ca)
	saved, _ := savedPlan(t, r)
	p, err := r.Recheck(t.Context(), saved)
	if err != nil || len(p.Actions) != len(saved.Actions) {
		t.Fatalf("%v, %d of %d actions", err, len(p.Actions), len(saved.Actions))
	}
	if _, err := r.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if p, err := r.Recheck(t.Context(), saved); err != nil || p.Differs() {
		t.Errorf("after its own apply: %v, %v", err, p)
	}
	other := newTestRegistrar(t, writeFleet(t, sim.Endpoint()), ca) // the same file with a journal of its own: another desk
	if other.cfg.Fleet.Hash != saved.FleetHash {
		t.Error("the same fleet file has another hash")
	}
	if _, err := other.Recheck(t.Context(), saved); !errors.Is(err, ErrStale) {
		t.Errorf("after somebody else's apply: %v, want ErrStale", err)
	}
	changed := newTestRegistrar(t, writeFleet(t, sim.Endpoint(), func(s string) string { return s + "# changed\n" }), ca)
	if _, err := changed.Recheck(t.Context(), saved); !errors.Is(err, ErrStale) {
		t.Errorf("with another fleet file: %v, want ErrStale", err)
	}
}
