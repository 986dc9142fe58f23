package registrar

import (
	"crypto/x509"
	"encoding/pem"
	"maps"
	"slices"

	"github.com/certmill/certmill/registrar/awsapi"
	"github.com/certmill/certmill/registrar/jitp"
)

// wanted is the desired state of one account, with everything filled in that depends on the place.
type wanted struct {
	account string
	roles   []wantedRole
	places  []wantedPlace
}

// wantedPlace is what an account shall have in one region.
type wantedPlace struct {
	Place
	access    awsapi.Access
	templates []wantedTemplate
	policies  []string // by name
	rules     []wantedRule
	cas       []wantedCA
}

// wantedCA is a registration and the CA's certificate.
type wantedCA struct {
	Registration
	cert   *x509.Certificate
	config awsapi.RegistrationConfig
	tags   map[string]string
}

// id is the one that AWS gives the CA (CA-43).
func (w wantedCA) id() string { return jitp.CertificateID(w.cert) }

// pem is exactly one certificate (CA-42).
func (w wantedCA) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.cert.Raw}))
}

// object names the CA in tables.
func (w wantedCA) object() string { return "CA " + w.CA }

// expand groups the registrations by account and region. The fleet is sorted, so the result is too.
func (f *Fleet) expand(cas map[string]*x509.Certificate) []wanted {
	var all []wanted
	for _, r := range f.Registrations {
		if len(all) == 0 || all[len(all)-1].account != r.Account {
			all = append(all, wanted{account: r.Account})
		}
		w := &all[len(all)-1]
		if len(w.places) == 0 || w.places[len(w.places)-1].Place != r.Place {
			w.places = append(w.places, wantedPlace{Place: r.Place, access: r.Access})
		}
		f.want(&w.places[len(w.places)-1], r, cas[r.CA])
	}
	for i := range all {
		all[i].roles = f.rolesOf(all[i].places)
	}
	return all
}

// want adds one registration to its place.
func (f *Fleet) want(w *wantedPlace, r Registration, cert *x509.Certificate) {
	ca := wantedCA{Registration: r, cert: cert, tags: f.Tags}
	var policies []string
	switch {
	case r.JITP != "":
		t := f.template(r.JITP, r.Place)
		ca.config.TemplateName = t.Name
		policies = t.policies
		if !slices.ContainsFunc(w.templates, func(o wantedTemplate) bool { return o.Name == t.Name }) {
			w.templates = append(w.templates, t)
		}
	case r.JITR != "":
		policies = []string{f.jitr[r.JITR].Policy}
		w.rules = f.addRule(w.rules, r, ca.id())
	}
	w.cas = append(w.cas, ca)
	for _, p := range policies {
		if !slices.Contains(w.policies, p) {
			w.policies = append(w.policies, p)
		}
	}
	slices.Sort(w.policies)
}

// rolesOf collects the roles of an account's templates: each once, trusted by all templates that use it, wherever they are.
func (f *Fleet) rolesOf(places []wantedPlace) []wantedRole {
	roles := make(map[string]*wantedRole)
	for _, p := range places {
		for _, t := range p.templates {
			r := roles[t.Role]
			if r == nil {
				r = newRole(t.Role, p.Account)
				roles[t.Role] = r
			}
			r.create = r.create || t.roleCreate
			r.sources = append(r.sources, p.arn("provisioningtemplate/"+t.Name))
			r.actions = union(r.actions, t.actions)
		}
	}
	var out []wantedRole
	for _, arn := range slices.Sorted(maps.Keys(roles)) {
		out = append(out, *roles[arn])
	}
	return out
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
