package awsim

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/registrar/jitr"
)

// jitrStack makes policy and rule, and lets the rule invoke the function.
func (a *account) jitrStack(permission bool) {
	a.t.Helper()
	a.ok("POST", "/policies/certmill-device", map[string]any{"policyDocument": devicePolicy})
	at := place{a.id, a.region}
	a.ok("POST", "/rules/certmill_jitr", map[string]any{
		"sql":     "SELECT *, clientid() as clientid FROM '$aws/events/certificates/registered/+' WHERE certificateStatus = 'PENDING_ACTIVATION'",
		"actions": []any{map[string]any{"lambda": map[string]any{"functionArn": at.functionARN("certmill-jitr")}}}, "awsIotSqlVersion": "2016-03-23",
	})
	if !permission {
		return
	}
	a.speaking("lambda").ok("POST", "/2015-03-31/functions/certmill-jitr/policy", map[string]any{
		"StatementId": "rule", "Action": "lambda:InvokeFunction", "Principal": "iot.amazonaws.com",
		"SourceArn": at.arn("rule/certmill_jitr"), "SourceAccount": a.id,
	})
}

// allow posts a line as `certmill order manifest` prints it.
func (a *account) allow(cert *authority, id string) {
	a.t.Helper()
	line := fmt.Sprintf(`{"order":"O-1","device_id":%q,"product":"demo","serial":"01","certificate_id":%q,"ca":"issuing","not_after":"2050-01-01T00:00:00Z"}`, id, cert.id())
	a.ok("POST", "/_awsim/allow-list/"+a.id+"/"+a.region+"/certmill-allow-list", line+"\n"+line+"\n") // twice: it is idempotent
}

// rules, J-02: not on the list, it stays pending; when its row arrives, the next event activates it
func TestJITR(t *testing.T) {
	s := start(t)
	a, ca := s.as(t, first), newAuthority(t, "Issuing")
	a.register(ca, modeSNIOnly, nil)
	a.jitrStack(true)
	unit := ca.issue(t, "whatever")
	d := s.device(t, "unit-1", unit, a.endpoint())
	d.wantClosed()
	d.wantClosed()
	a.wantStatus(unit, statusPending)
	a.allow(unit, "unit-1")
	a.wantStatus(unit, statusPending)
	d.wantClosed()
	a.wantStatus(unit, statusActive)
	d.wantConnected()
	if got := a.ok("GET", "/things/unit-1", nil)["attributes"].(map[string]any)["product"]; got != "demo" {
		t.Errorf("the thing's product is %v", got)
	}
	a.allow(unit, "unit-1") // the manifest again: the row stays used
	if rows := a.row(unit); rows.UsedBy != "unit-1" {
		t.Errorf("row is %+v", rows)
	}
}

// A unit that was denied stays so when the manifest, which knows nothing of it, is sent again: it was let in.
func TestManifestAgainKeepsDenial(t *testing.T) {
	s := start(t)
	a, ca := s.as(t, first), newAuthority(t, "Issuing")
	a.register(ca, modeSNIOnly, nil)
	a.jitrStack(true)
	unit := ca.issue(t, "unit-1")
	a.allow(unit, "unit-1")
	denial := fmt.Sprintf(`{"certificate_id":%q,"device_id":"unit-1","product":"demo","denied":true}`, unit.id())
	a.ok("POST", "/_awsim/allow-list/"+a.id+"/"+a.region+"/certmill-allow-list", denial)
	a.allow(unit, "unit-1")
	s.device(t, "unit-1", unit, a.endpoint()).wantClosed()
	a.wantStatus(unit, statusRevoked)
}

func (a *account) row(cert *authority) (out jitr.Row) {
	a.t.Helper()
	err := a.sim.store.view(func(tx *tx) error {
		there, err := allowItems.get(tx, allowKey(place{a.id, a.region}, "certmill-allow-list", cert.id()))
		if err != nil {
			return err
		}
		out, err = there.row()
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}

// A device that is on the list at its first connect is let in at its second.
func TestJITRListedBefore(t *testing.T) {
	s := start(t)
	a, ca := s.as(t, first), newAuthority(t, "Issuing")
	a.register(ca, modeDefault, nil)
	a.jitrStack(true)
	unit := ca.issue(t, "unit-1")
	a.allow(unit, "unit-1")
	d := s.device(t, "unit-1", unit, a.endpoint())
	d.wantClosed()
	d.wantConnected()
}

// rule R-03: without permission the action fails silently
func TestJITRWithoutPermission(t *testing.T) {
	s := start(t)
	a, ca := s.as(t, first), newAuthority(t, "Issuing")
	a.register(ca, modeSNIOnly, nil)
	a.jitrStack(false)
	unit := ca.issue(t, "unit-1")
	a.allow(unit, "unit-1")
	d := s.device(t, "unit-1", unit, a.endpoint())
	d.wantClosed()
	d.wantClosed()
	a.wantStatus(unit, statusPending)
}

// rules R-08 and CA-03 of the clock: the grace time passes in AWS's time, and TLS does not mind
func TestJITRGraceTime(t *testing.T) {
	s := start(t)
	a, ca := s.as(t, first), newAuthority(t, "Issuing", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(1000 * time.Hour) })
	a.register(ca, modeSNIOnly, nil)
	a.jitrStack(true)
	a.speaking("lambda").ok("PUT", "/2015-03-31/functions/certmill-jitr/configuration", map[string]any{
		"Environment": map[string]any{"Variables": map[string]string{"GRACE": "72h"}},
	})
	unit := ca.issue(t, "unit-1", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(1000 * time.Hour) })
	d := s.device(t, "unit-1", unit, a.endpoint())
	d.wantClosed()
	a.ok("POST", "/_awsim/clock", `{"advance_s":172800}`)
	d.wantClosed()
	a.wantStatus(unit, statusPending)
	a.ok("POST", "/_awsim/clock", `{"advance_s":172800}`)
	d.wantClosed()
	a.wantStatus(unit, statusInactive)
}

func TestAllowListRefuses(t *testing.T) {
	s := start(t, func(c *Config) { c.Accounts = []string{first} })
	a := s.as(t, first)
	path := "/_awsim/allow-list/" + first + "/" + region + "/t"
	for name, c := range map[string]struct{ path, body string }{
		"not JSON":        {path, "x\n"},
		"no id":           {path, "{}\n"},
		"line too long":   {path, strings.Repeat(" ", maxLine+1) + "\n"},
		"another account": {strings.Replace(path, first, second, 1), "\n"},
	} {
		if res := a.do("POST", c.path, c.body); res.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, res.status, res.body)
		}
	}
}
