package registrar

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Plan is what it takes to bring AWS to the desired state, and what stands against it. It is made of what was seen, without a call.
type Plan struct {
	Version     int               `json:"version"` // of this form: 1
	Made        time.Time         `json:"made"`
	Fleet       string            `json:"fleet"`      // path of the file
	FleetHash   string            `json:"fleet_hash"` // of the file and all it names
	CAs         map[string]string `json:"cas"`        // name → id at AWS
	Overrides   []string          `json:"endpoint_overrides,omitempty"`
	Actions     []Action          `json:"actions"`                // in the order in which they are done
	BrokenRules []Finding         `json:"broken_rules,omitempty"` // nothing is done while there is one
	Unreachable []Finding         `json:"unreachable,omitempty"`  // places of which nothing is known
	NotMade     []Finding         `json:"not_made,omitempty"`     // checks and changes that cannot be made there; no difference
	Unknown     []Finding         `json:"unknown,omitempty"`      // what answers did not say; no difference
	Notes       []Finding         `json:"notes,omitempty"`
	Hash        string            `json:"hash,omitempty"` // SHA-256 over the rest; set by Save
}

// Action is one change to AWS.
type Action struct {
	Key string `json:"key"` // names the effect; stands once in a plan
	Place
	Verb    string `json:"verb"`   // "create", "register", "activate", …
	Object  string `json:"object"` // "role certmill-jitp", "CA issuing", …
	Why     string `json:"why"`
	Content string `json:"content,omitempty"` // what is written

	step     step
	optional bool // where the endpoint does not have the call, or its object is not there, the rest goes on
}

// Finding is something that a plan has to say about an object.
type Finding struct {
	Place
	Object string `json:"object,omitempty"`
	Rule   string `json:"rule,omitempty"`
	Reason string `json:"reason"`
}

// Differs reports whether AWS is not yet as wanted.
func (p *Plan) Differs() bool { return len(p.Actions) > 0 }

// planner collects a plan, one place after the other.
type planner struct {
	plan *Plan
	at   Place
	tags map[string]string
}

func (p *planner) act(a Action, s step) {
	a.Place, a.step = p.at, s
	a.Key = strings.Join([]string{p.at.Account, cmp.Or(p.at.Region, "-"), a.Object, a.Verb}, "/")
	p.plan.Actions = append(p.plan.Actions, a)
}

func (p *planner) broken(object, rule, format string, args ...any) {
	f := Finding{p.at, object, rule, fmt.Sprintf(format, args...)}
	if !slices.Contains(p.plan.BrokenRules, f) {
		p.plan.BrokenRules = append(p.plan.BrokenRules, f)
	}
}

func (p *planner) notMade(object, reason string) {
	p.plan.NotMade = append(p.plan.NotMade, Finding{p.at, object, "", reason})
}

func (p *planner) unknown(object, reason string) {
	p.plan.Unknown = append(p.plan.Unknown, Finding{p.at, object, "", reason})
}

func (p *planner) note(object, reason string) {
	p.plan.Notes = append(p.plan.Notes, Finding{p.at, object, "", reason})
}

// makePlan compares what is wanted with what was seen: a pure function, with the same plan for the same input.
func makePlan(f *Fleet, cas map[string]*x509.Certificate, s *state, now time.Time) *Plan {
	p := &planner{plan: &Plan{Version: 1, Made: now, Fleet: f.Path, FleetHash: f.Hash, CAs: make(map[string]string), Actions: []Action{}}, tags: f.Tags}
	for _, warning := range f.Warnings {
		p.note("", warning)
	}
	all := f.expand(cas)
	p.certificates(all, now)
	p.modes(f.Registrations)
	for _, w := range all {
		p.account(w, s)
	}
	return p.plan
}

// certificates looks at each CA's certificate once.
func (p *planner) certificates(all []wanted, now time.Time) {
	for _, w := range all {
		for _, place := range w.places {
			for _, ca := range place.cas {
				if _, done := p.plan.CAs[ca.CA]; !done {
					p.plan.CAs[ca.CA] = ca.id()
					planCertificate(p, ca, now)
				}
			}
		}
	}
}

// modes finds what concerns several accounts of a region. In DEFAULT one account owns the CA there (CA-13); beside SNI_ONLY elsewhere in
// the region nobody says what AWS does (CA-16).
func (p *planner) modes(all []Registration) {
	type inRegion struct{ ca, region string }
	modes := make(map[inRegion]map[string][]string) // → mode → accounts
	for _, r := range all {
		key := inRegion{r.CA, r.Region}
		if modes[key] == nil {
			modes[key] = make(map[string][]string)
		}
		modes[key][r.Mode] = append(modes[key][r.Mode], r.Account)
	}
	keys := slices.SortedFunc(maps.Keys(modes), func(a, b inRegion) int {
		return cmp.Or(strings.Compare(a.ca, b.ca), strings.Compare(a.region, b.region))
	})
	for _, k := range keys {
		owners, others := modes[k][ModeDefault], modes[k][ModeSNIOnly]
		object := "CA " + k.ca + " in " + k.region
		if len(owners) > 1 {
			p.broken(object, "CA-13", "only one account of a region can have a CA in DEFAULT mode: %s", strings.Join(owners, ", "))
		}
		if len(owners) > 0 && len(others) > 0 {
			p.broken(object, "CA-16", "DEFAULT in %s beside SNI_ONLY in %s: give a CA one mode in a region", strings.Join(owners, ", "), strings.Join(others, ", "))
		}
	}
}

// account plans what is account-wide first: templates name roles that have to be there.
func (p *planner) account(w wanted, s *state) {
	p.at = Place{Account: w.account}
	for _, role := range w.roles {
		if roles, ok := s.accounts[w.account]; ok {
			role.plan(p, roles[role.arn])
		}
	}
	for _, place := range w.places {
		p.at = place.Place
		is := s.places[place.Place]
		if text := is.override; text != "" && !slices.Contains(p.plan.Overrides, text) {
			p.plan.Overrides = append(p.plan.Overrides, text)
		}
		if is.problem != "" {
			p.plan.Unreachable = append(p.plan.Unreachable, Finding{Place: p.at, Reason: is.problem})
			continue
		}
		p.place(place, is)
	}
}

// place plans one account and region: what a device will need before the CA that lets it in.
func (p *planner) place(w wantedPlace, is *placeState) {
	for _, t := range w.templates {
		t.plan(p, is.templates[t.Name])
	}
	for _, name := range w.policies {
		planPolicy(p, name, is.policies[name])
	}
	for _, r := range w.rules {
		r.plan(p, is.rules[r.name])
		r.planPermission(p, is.permissions[r.name])
	}
	if len(w.rules) > 0 {
		planEvents(p, is.events)
	}
	for _, ca := range w.cas {
		ca.plan(p, is.cas[ca.CA])
		ca.planTags(p, is.tags[ca.CA])
	}
}
