package registrar

import (
	"context"

	"github.com/certmill/certmill/registrar/awsapi"
)

// Row is how one registration stands. A field is "?" where it is not known, and "none" where there is no registration.
type Row struct {
	CA string `json:"ca"`
	Place
	Mode              string `json:"mode"`
	Status            string `json:"status"`
	AutoRegistration  string `json:"auto_registration"`
	CACertificateID   string `json:"ca_certificate_id"`
	Provisioning      string `json:"provisioning"`       // "jitp:NAME", "jitr:NAME" or "none", as the fleet file wants it
	ProvisioningState string `json:"provisioning_state"` // "ok", "differs", "missing", "?", or "none"
	Problem           string `json:"problem,omitempty"`  // why nothing else is known
}

const (
	fieldUnknown = "?"
	fieldNone    = "none"
)

// Status looks at AWS, reading only, and returns a row for each registration of the fleet. The error is that of ctx.
func (r *Registrar) Status(ctx context.Context) ([]Row, error) {
	all := r.cfg.Fleet.expand(r.cfg.CAs)
	s, err := r.observe(ctx, all)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, w := range all {
		for _, place := range w.places {
			for _, ca := range place.cas {
				rows = append(rows, place.row(ca, s.places[place.Place]))
			}
		}
	}
	return rows, nil
}

func (w wantedPlace) row(ca wantedCA, is *placeState) Row {
	row := Row{CA: ca.CA, Place: w.Place, CACertificateID: ca.id(), Problem: is.problem}
	row.Provisioning, row.ProvisioningState = fieldNone, fieldNone
	if is.problem != "" {
		row.Mode, row.Status, row.AutoRegistration, row.ProvisioningState = fieldUnknown, fieldUnknown, fieldUnknown, fieldUnknown
	} else if have := is.cas[ca.CA].is; have != nil {
		row.Mode, row.Status, row.AutoRegistration = known(have.Mode), known(have.Status), known(have.AutoRegistration)
		row.CACertificateID = have.ID
	} else {
		row.Mode, row.Status, row.AutoRegistration = fieldNone, fieldNone, fieldNone
	}
	switch {
	case ca.JITP != "":
		row.Provisioning = "jitp:" + ca.JITP
	case ca.JITR != "":
		row.Provisioning = "jitr:" + ca.JITR
	}
	if is.problem == "" && row.Provisioning != fieldNone {
		row.ProvisioningState = w.provisioningState(ca, is)
	}
	return row
}

// provisioningState compares the CA's template or rule with the fleet file.
func (w wantedPlace) provisioningState(ca wantedCA, is *placeState) string {
	for _, t := range w.templates {
		if t.Name == ca.config.TemplateName {
			s := is.templates[t.Name]
			return compared(s, func(have templateState) bool { return sameJSON(have.Body, t.Body) && have.Role == t.Role })
		}
	}
	for _, rule := range w.rules {
		for _, id := range rule.cas {
			if id == ca.id() {
				return compared(is.rules[rule.name], func(have awsapi.Rule) bool { return rule.matches(have) })
			}
		}
	}
	return fieldNone
}

func compared[T any](s seen[T], same func(T) bool) string {
	switch {
	case s.unread != "":
		return fieldUnknown
	case s.is == nil:
		return "missing"
	case !same(*s.is):
		return "differs"
	}
	return "ok"
}

func known(field string) string {
	if field == "" {
		return fieldUnknown
	}
	return field
}
