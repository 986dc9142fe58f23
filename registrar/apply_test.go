package registrar

import (
	"testing"
)

// The fleet of quickstart: both modes, JITP and JITR, two accounts; afterwards nothing is left to do.
func TestApplyBringsAWSToTheState(t *testing.T) {
	sim, ca := startSim(t), newTestCA(t)
	f := writeFleet(t, sim.Endpoint())
	r := newTestRegistrar(t, f, ca)
	p := mustPlan(t, r)
	t.Logf("\n%s", planText(t, p))
	report := mustApply(t, r)
	t.Logf("\n%s", reportText(t, report))
	if p := mustPlan(t, r); p.Differs() || len(p.NotMade) > 0 || len(p.Unknown) > 0 {
		t.Errorf("second plan:\n%s", planText(t, p))
	}
	rows, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		t.Logf("%+v", row)
	}
}
