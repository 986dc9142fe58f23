package server

import (
	"errors"
	"strings"
	"testing"

	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

func TestProblemsAreComplete(t *testing.T) {
	for _, e := range errorCodes {
		if _, ok := problems[e.Code]; !ok {
			t.Errorf("%v leads to %q, which is no problem", e.Err, e.Code)
		}
	}
	for code, p := range problems {
		if p.status < 400 || p.title == "" || !strings.HasSuffix(p.advice, ".") && !strings.HasSuffix(p.advice, "`.") {
			t.Errorf("%s: incomplete: %+v", code, p)
		}
		if retryable := p.status == 429 || p.status == 503; retryable != (p.after > 0) {
			t.Errorf("%s: status %d with Retry-After %s", code, p.status, p.after)
		}
	}
}

// TestDetailSaysWhich: whoever reads a problem learns which station, order, name or id it is about, and not only which kinds there are.
func TestDetailSaysWhich(t *testing.T) {
	f := newFactory(t, nil)
	line := f.stationClient(t, f.addStation(t, "line-1"))
	gone := f.stationClient(t, f.addStation(t, "line-2"))
	for _, s := range []issuer.OrderSpec{{ID: "O-1"}, {ID: "O-2"}, {ID: "O-3", Stations: "other-*"}} {
		f.order(t, s)
	}
	has := ask(t, "unit-1")
	if _, err := line.Issue(t.Context(), "O-1", has); err != nil {
		t.Fatal(err)
	}
	frozen := issuer.Target{Kind: "order", Name: "O-2"}
	if err := errors.Join(f.admin.DisableStation(t.Context(), "line-2", "stolen"), f.admin.Freeze(t.Context(), frozen, "label wrong")); err != nil {
		t.Fatal(err)
	}
	issue := func(c *client.Client, order string, r client.Request) error {
		_, err := c.Issue(t.Context(), order, r)
		return err
	}
	other := ask(t, "unit-2")
	other.DeviceID = "unit-3"
	_, noProfile := f.admin.CreateOrder(t.Context(), issuer.OrderSpec{Product: "demo", Profile: "divice", Quantity: 1})
	for _, tt := range []struct {
		err        error
		code, says string
	}{
		{issue(gone, "O-1", ask(t, "unit-4")), client.CodeStationNotAllowed, "line-2 is disabled"},
		{issue(line, "O-3", ask(t, "unit-4")), client.CodeStationNotAllowed, "other-*"},
		{issue(line, "O-2", ask(t, "unit-4")), client.CodeOrderFrozen, "O-2: frozen"},
		{issue(line, "O-1", other), client.CodeDeviceMismatch, `"unit-3" and "unit-2"`},
		{issue(line, "O-2", has), client.CodeDeviceHasCertificate, "another order"}, // said "another key", which it has not
		{f.admin.Freeze(t.Context(), issuer.Target{Kind: "ca", Name: "isuing"}, "x"), client.CodeNotFound, "isuing"},
		{noProfile, client.CodeNotFound, "divice"},
	} {
		wantCode(t, tt.err, tt.code)
		if !strings.Contains(tt.err.Error(), tt.says) {
			t.Errorf("got %v, want %q said", tt.err, tt.says)
		}
	}
}
