package registrar

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/certmill/certmill/registrar/awsapi"
	"github.com/certmill/certmill/registrar/jitp"
)

// wantedTemplate is a provisioning template at one place.
type wantedTemplate struct {
	awsapi.Template
	roleCreate bool
	policies   []string // that it attaches by name
	actions    []string // that its role needs
	faults     []jitp.Fault
	unknown    string // why certmill cannot say which rights it needs; "" it can
}

const (
	typeJITP            = "JITP"
	maxTemplateVersions = 5 // PT-06
)

// templateName keeps our templates apart from other people's.
func templateName(entry string) string { return "certmill-" + entry }

// template fills in the template of an entry under jitp: for one place. LoadFleet has checked it.
func (f *Fleet) template(entry string, at Place) wantedTemplate {
	p := f.jitp[entry]
	body := at.fill(p.text)
	w := wantedTemplate{
		Template:   awsapi.Template{Name: templateName(entry), Body: compact(body), Role: at.fill(p.Role), Type: typeJITP, Enabled: true}, // PT-03
		roleCreate: p.RoleCreate,
	}
	t, err := jitp.Parse([]byte(body))
	if err != nil {
		panic("registrar: template was not checked: " + err.Error())
	}
	w.faults = t.Lint(nil)
	res, err := t.Resolve(sampleParameters(t))
	if err != nil {
		w.unknown = err.Error()
		return w
	}
	for _, policy := range res.Policies {
		if policy.Name != "" {
			w.policies = append(w.policies, policy.Name)
		}
	}
	w.actions = roleActions(res)
	if len(res.Thing.PackageVersions) > 0 {
		w.unknown = "it sets PackageVersions, whose rights no rule of ours names"
	}
	return w
}

// sampleParameters stand for a device: which resources come out does not depend on the values that certmill lets into a template.
func sampleParameters(t *jitp.Template) map[string]string {
	params := make(map[string]string, len(t.Parameters))
	for name := range t.Parameters {
		params[name] = "sample"
	}
	return params
}

func (w wantedTemplate) object() string { return "template " + w.Name }

// plan compares a template with what is there.
func (w wantedTemplate) plan(p *planner, s seen[templateState]) {
	for _, fault := range w.faults {
		p.broken(w.object(), fault.Rule, "%s", fault.Error())
	}
	if w.unknown != "" && w.roleCreate {
		p.broken(w.object(), "", "certmill cannot make its role: %s; make the role yourself and set role_create: false", w.unknown)
	}
	switch {
	case s.unread != "":
		p.notMade(w.object(), s.unread)
	case s.is == nil:
		p.act(Action{Verb: "create", Object: w.object(), Why: "it is not there", Content: asJSON(w.Template)}, &makeTemplate{w.Template, p.tags})
	case s.is.Type != "" && s.is.Type != typeJITP:
		p.broken(w.object(), "PT-01", "is of type %s, and a type cannot be changed: delete it, or name the entry under jitp: otherwise", s.is.Type)
	default:
		w.planChange(p, s.is)
	}
}

func (w wantedTemplate) planChange(p *planner, is *templateState) {
	if !sameJSON(is.Body, w.Body) {
		if old, full := oldest(is.versions); full {
			p.act(Action{Verb: "drop version", Object: w.object(), Why: fmt.Sprintf("version %d: five are the limit (PT-06)", old)}, &dropVersion{w.Name, old})
		}
		p.act(Action{Verb: "new version", Object: w.object(), Why: "its body differs", Content: w.Body}, &newVersion{w.Name, w.Body})
	}
	if is.Role != w.Role || !is.Enabled {
		p.act(Action{Verb: "change", Object: w.object(), Why: "its role differs, or it is not enabled", Content: w.Role}, &changeTemplate{w.Template})
	}
}

// oldest gives the version that has to go before a new one can come.
func oldest(versions []awsapi.TemplateVersion) (id int32, full bool) {
	for _, v := range versions {
		if !v.Default && (id == 0 || v.ID < id) {
			id = v.ID
		}
	}
	return id, len(versions) >= maxTemplateVersions && id != 0
}

type makeTemplate struct {
	template awsapi.Template
	tags     map[string]string
}

func (s *makeTemplate) done(ctx context.Context, t *awsapi.Target) (answer, error) {
	is, err := t.Template(ctx, s.template.Name)
	if err != nil {
		return absent(err)
	}
	return whether(sameJSON(is.Body, s.template.Body) && is.Role == s.template.Role), nil
}

func (s *makeTemplate) do(ctx context.Context, t *awsapi.Target, _ *tools) error {
	return t.CreateTemplate(ctx, s.template, s.tags)
}

type newVersion struct{ name, body string }

func (s *newVersion) done(ctx context.Context, t *awsapi.Target) (answer, error) {
	is, err := t.Template(ctx, s.name)
	if err != nil {
		return absent(err)
	}
	return whether(sameJSON(is.Body, s.body)), nil
}

func (s *newVersion) do(ctx context.Context, t *awsapi.Target, _ *tools) error {
	return t.CreateTemplateVersion(ctx, s.name, s.body)
}

type dropVersion struct {
	name string
	id   int32
}

func (s *dropVersion) done(ctx context.Context, t *awsapi.Target) (answer, error) {
	versions, err := t.TemplateVersions(ctx, s.name)
	if err != nil {
		return no, err
	}
	return whether(!slices.ContainsFunc(versions, func(v awsapi.TemplateVersion) bool { return v.ID == s.id })), nil
}

func (s *dropVersion) do(ctx context.Context, t *awsapi.Target, _ *tools) error {
	return t.DeleteTemplateVersion(ctx, s.name, s.id)
}

type changeTemplate struct{ template awsapi.Template }

func (s *changeTemplate) done(ctx context.Context, t *awsapi.Target) (answer, error) {
	is, err := t.Template(ctx, s.template.Name)
	if err != nil {
		return absent(err)
	}
	return whether(is.Role == s.template.Role && is.Enabled), nil
}

func (s *changeTemplate) do(ctx context.Context, t *awsapi.Target, _ *tools) error {
	return t.SetTemplate(ctx, s.template)
}

// compact takes the white space out of a JSON text: a template has 10 KiB (PT-40).
func compact(text string) string {
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		return text
	}
	return b.String()
}
