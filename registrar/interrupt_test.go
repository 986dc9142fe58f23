package registrar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/certmill/certmill/registrar/awsapi"
	"github.com/certmill/certmill/registrar/awsim"
)

// small is a fleet with everything in it once: DEFAULT with JITP in one region, SNI_ONLY with JITR in another.
func small(account string) func(string) string {
	return func(string) string {
		return strings.ReplaceAll(`version: 1
access: {endpoint: ENDPOINT, role: "arn:aws:iam::{account}:role/certmill-registrar", external_id: certmill-demo}
registrations:
  - {ca: issuing, accounts: ["ACCOUNT"], regions: [eu-central-1], mode: default, provisioning: {jitp: sensor}}
  - {ca: issuing, accounts: ["ACCOUNT"], regions: [us-west-2], mode: sni-only, provisioning: {jitr: allow-list}}
jitp:
  sensor: {template: sensor.json, role: "arn:aws:iam::{account}:role/certmill-jitp", role_create: true}
jitr:
  allow-list: {rule: certmill_jitr, function: "arn:aws:lambda:{region}:{account}:function:certmill-jitr", table: certmill-allow-list, policy: certmill-device}
tags: {product: demo}
`, "ACCOUNT", account)
	}
}

var errCut = errors.New("the wire was cut")

// cutter is a transport that fails from the nth request on, or at it alone. Numbers begin with 1.
type cutter struct {
	at     int64
	dead   bool // later requests fail too, and do not reach AWS
	after  bool // the nth reaches AWS, and its answer is lost
	count  atomic.Int64
	writes sync.Map // numbers of the requests that change something
}

func (c *cutter) RoundTrip(r *http.Request) (*http.Response, error) {
	n := c.count.Add(1)
	if write, err := changes(r); err != nil {
		return nil, err
	} else if write {
		c.writes.Store(n, true)
	}
	switch {
	case n == c.at && c.after:
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, res.Body)
		return nil, errors.Join(errCut, err, res.Body.Close())
	case n == c.at, n > c.at && c.dead:
		return nil, errCut
	}
	return http.DefaultTransport.RoundTrip(r)
}

// changes tells requests that change something at AWS from those that only look. STS and IAM say in the body what they want.
func changes(r *http.Request) (bool, error) {
	if r.Method == http.MethodGet || r.Body == nil {
		return r.Method != http.MethodGet, nil
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return !bytes.HasPrefix(body, []byte("Action=AssumeRole")) && !bytes.HasPrefix(body, []byte("Action=Get")), err
}

// holdings is what an account has in the end, in a form in which two accounts can be compared.
func holdings(t *testing.T, r *Registrar, ca *testCA) string {
	t.Helper()
	var out []string
	add := func(v any, err error) {
		if err != nil {
			out = append(out, err.Error())
			return
		}
		out = append(out, fmt.Sprintf("%+v", v))
	}
	account := r.cfg.Fleet.Registrations[0].Account
	for _, reg := range r.cfg.Fleet.Registrations {
		target, err := r.enter(t.Context(), reg.Place, reg.Access)
		if err != nil {
			t.Fatal(err)
		}
		w := wantedCA{Registration: reg, cert: ca.cert}
		is, err := w.describe(t.Context(), target)
		add(is, err)
		add(target.Tags(t.Context(), is.ARN))
		add(target.Template(t.Context(), "certmill-sensor"))
		add(target.TemplateVersions(t.Context(), "certmill-sensor"))
		add(target.DevicePolicy(t.Context(), DevicePolicy))
		add(target.Rule(t.Context(), "certmill_jitr"))
		add(target.FunctionPolicy(t.Context(), "certmill-jitr"))
		add(target.CAEvents(t.Context()))
		add(target.Role(t.Context(), "certmill-jitp"))
		add(target.RolePolicy(t.Context(), "certmill-jitp", rolePolicyName))
	}
	text := strings.Join(out, "\n")
	return strings.NewReplacer(account, "ACCOUNT", (wantedCA{cert: ca.cert}).id(), "CA-ID").Replace(text)
}

// run plans and applies once, however far it comes.
func runOnce(ctx context.Context, r *Registrar) (*Report, error) {
	p, err := r.Plan(ctx)
	if err != nil {
		return nil, err
	}
	return r.Apply(ctx, p)
}

// P12: AWS ends up as the plan says, and running it again finishes the rest and never leaves a second effect, wherever the first run
// was cut off. Rules K-04, CA-83.
func TestP12CutOffAfterEveryCall(t *testing.T) {
	t.Parallel()
	t.Run("from nothing", func(t *testing.T) { cutEverywhere(t, func(*testing.T, *Registrar, *testCA) {}) })
	t.Run("after changes by hand", func(t *testing.T) { cutEverywhere(t, disarrange) })
}

// disarrange applies everything and then changes whatever certmill would change back.
func disarrange(t *testing.T, r *Registrar, ca *testCA) {
	mustApply(t, r)
	for _, reg := range r.cfg.Fleet.Registrations {
		target, err := r.enter(t.Context(), reg.Place, reg.Access)
		if err != nil {
			t.Fatal(err)
		}
		w := wantedCA{Registration: reg, cert: ca.cert}
		do := func(err error) {
			if err != nil {
				t.Error(err)
			}
		}
		do(target.UpdateCA(t.Context(), w.id(), awsapi.CAUpdate{Status: statusInactive, AutoRegistration: autoOff}))
		do(target.SetRoleTrust(t.Context(), "certmill-jitp", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`))
		do(target.SetRolePolicy(t.Context(), "certmill-jitp", rolePolicyName, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`))
		if reg.JITR != "" {
			do(target.ReplaceRule(t.Context(), awsapi.Rule{Name: "certmill_jitr", SQL: "SELECT * FROM 'x'", SQLVersion: "2016-03-23", Functions: []string{"arn:aws:lambda:us-west-2:" + reg.Account + ":function:other"}}))
			do(target.UpdateCA(t.Context(), w.id(), awsapi.CAUpdate{Config: awsapi.RegistrationConfig{Body: readText(t, "testdata/sensor.json"), Role: "arn:aws:iam::" + reg.Account + ":role/other"}}))
			continue
		}
		for i := range maxTemplateVersions - 1 { // rule PT-06: one has to go
			do(target.CreateTemplateVersion(t.Context(), "certmill-sensor", strings.Replace(readText(t, "testdata/sensor.json"), "certmill-device", fmt.Sprint("other-", i), 1)))
		}
		do(target.SetTemplate(t.Context(), awsapi.Template{Name: "certmill-sensor", Role: "arn:aws:iam::" + reg.Account + ":role/other"}))
	}
}

func cutEverywhere(t *testing.T, prepare func(*testing.T, *Registrar, *testCA)) {
	t.Parallel()
	var sims [8]*awsim.Sim // what one simulator waits for is its disk
	for i := range sims {
		sims[i] = startSim(t)
	}
	serial := atomic.Int64{}
	fresh := func(t *testing.T, c *cutter) (*Registrar, *testCA) {
		ca := newTestCA(t) // of its own: in DEFAULT mode a CA has one account in a region (CA-13)
		n := serial.Add(1)
		f := writeFleet(t, sims[n%int64(len(sims))].Endpoint(), small(fmt.Sprintf("%012d", 333333330000+n)))
		change := func(cfg *Config) {
			cfg.Parallel = 1 // the same calls in the same order
			cfg.Keys = &awsapi.Keys{ID: f.Registrations[0].Account, Secret: "secret"}
		}
		prepare(t, newTestRegistrar(t, f, ca, change), ca)
		return newTestRegistrar(t, f, ca, change, func(cfg *Config) { cfg.Transport = c }), ca
	}
	undisturbed := &cutter{}
	r, ca := fresh(t, undisturbed)
	mustApply(t, r)
	calls := undisturbed.count.Load()
	want := holdings(t, r, ca)
	if p := mustPlan(t, r); p.Differs() {
		t.Fatalf("second plan:\n%s", planText(t, p))
	}
	runs := 0
	var running sync.WaitGroup
	slots := make(chan struct{}, 32) // what a run waits for is its own pauses and the simulator's disk
	for i, way := range []struct{ dead, after bool }{{true, false}, {true, true}, {false, true}} {
		for n := int64(1); n <= calls; n++ {
			if _, write := undisturbed.writes.Load(n); !write && n%3 != int64(i) && os.Getenv("CERTMILL_TEST_LONG") == "" {
				continue // a look is cut in one way; in all three with CERTMILL_TEST_LONG
			}
			runs++
			slots <- struct{}{}
			running.Go(func() {
				defer func() { <-slots }()
				t.Run(fmt.Sprintf("dead=%v,after=%v,call=%d", way.dead, way.after, n), func(t *testing.T) {
					c := &cutter{at: n, dead: way.dead, after: way.after}
					r, ca := fresh(t, c)
					cutAndGoOn(t, c, r)
					if got := holdings(t, r, ca); got != want {
						t.Errorf("AWS has\n%s\nundisturbed it has\n%s", got, want)
					}
				})
			})
		}
	}
	running.Wait()
	t.Logf("P12: cut off in %d ways at %d calls: the next run finished it, and AWS held the same", runs, calls)
}

// cutAndGoOn runs once with the wire cut, and once more.
func cutAndGoOn(t *testing.T, c *cutter, r *Registrar) {
	report, err := runOnce(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if !c.dead && (len(report.Outcomes) == 0 || !report.Complete()) { // one lost answer is nothing that needs a second run
		t.Errorf("first run:\n%s", reportText(t, report))
	}
	c.at, c.dead = 0, false
	mustApply(t, r)
	if p := mustPlan(t, r); p.Differs() {
		t.Errorf("plan after the second run:\n%s", planText(t, p))
	}
}
