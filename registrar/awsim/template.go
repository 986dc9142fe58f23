package awsim

import (
	"net/http"
	"slices"
	"strconv"
	"time"
)

// template is a provisioning template with its versions (PT-06); its type never changes (PT-01).
type template struct {
	Name        string    `json:"name"`
	Type        string    `json:"type"`
	Description string    `json:"description,omitempty"`
	Enabled     bool      `json:"enabled"`
	Role        string    `json:"role"`
	Default     int       `json:"default"`
	Last        int       `json:"last"` // number of the newest version ever made
	Versions    []version `json:"versions"`
	Created     time.Time `json:"created"`
	Modified    time.Time `json:"modified"`
}

const templates table[template] = "provisioning-templates"

const (
	typeJITP  = "JITP"
	typeFleet = "FLEET_PROVISIONING"

	maxTemplates        = 256 // PT-10
	maxTemplateVersions = 5   // PT-06
)

// body is what runs: the default version (PT-07).
func (t *template) body() string { return byID(t.Versions, strconv.Itoa(t.Default)).Body }

// templateInput is the body of CreateProvisioningTemplate and UpdateProvisioningTemplate.
type templateInput struct {
	TemplateName        string    `json:"templateName"`
	TemplateBody        string    `json:"templateBody"`
	Description         *string   `json:"description"`
	Enabled             *bool     `json:"enabled"`
	ProvisioningRoleARN *string   `json:"provisioningRoleArn"`
	DefaultVersionID    *int      `json:"defaultVersionId"`
	PreProvisioningHook *struct{} `json:"preProvisioningHook"`
	Type                string    `json:"type"`
	Tags                []tag     `json:"tags"`
}

func (in *templateInput) apply(t *template) error {
	if in.PreProvisioningHook != nil && t.Type == typeJITP { // rule PT-04
		return invalidRequest("preProvisioningHook is for FLEET_PROVISIONING templates only")
	}
	if in.Description != nil {
		t.Description = *in.Description
	}
	if in.Enabled != nil {
		t.Enabled = *in.Enabled
	}
	if in.ProvisioningRoleARN != nil {
		t.Role = *in.ProvisioningRoleARN
	}
	if err := limitDescription.check(t.Description); err != nil {
		return err
	}
	return limitRoleARN.check(t.Role) // rule PT-02
}

// checkTemplateBody knows the grammar of JITP; fleet templates only have to be short enough.
func checkTemplateBody(kind, body string) error {
	if kind == typeJITP {
		return checkBody(body)
	}
	return limitTemplateBody.check(body)
}

func createTemplate(c *call) (any, error) {
	var in templateInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.Type == "" {
		in.Type = typeFleet
	}
	t := &template{Name: in.TemplateName, Type: in.Type, Default: 1, Last: 1, Created: c.tx.now, Modified: c.tx.now}
	if err := c.checkNewTemplate(t, &in); err != nil {
		return nil, err
	}
	t.Versions = []version{{"1", in.TemplateBody, c.tx.now}}
	if err := templates.put(c.tx, c.key(t.Name), t); err != nil {
		return nil, err
	}
	return object{"templateArn": c.templateARN(t.Name), "templateName": t.Name, "defaultVersionId": 1},
		setTags(c.tx, c.place, c.templateARN(t.Name), in.Tags)
}

func (c *call) checkNewTemplate(t *template, in *templateInput) error {
	if err := limitTemplateName.check(t.Name); err != nil {
		return err
	}
	if err := oneOf("type", t.Type, typeJITP, typeFleet); err != nil {
		return err
	}
	if err := in.apply(t); err != nil {
		return err
	}
	if err := checkTemplateBody(t.Type, in.TemplateBody); err != nil {
		return err
	}
	if err := checkTags(in.Tags); err != nil {
		return err
	}
	all, err := templates.all(c.tx, c.key(""))
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(o *template) bool { return o.Name == t.Name }) { // rule PT-05
		return alreadyExists(t.Name, c.templateARN(t.Name), "Template with name %s already exists", t.Name)
	}
	if len(all) >= maxTemplates { // rule PT-10
		return limitExceeded("The maximum number of provisioning templates is %d", maxTemplates)
	}
	return nil
}

func (c *call) existingTemplate() (*template, error) { // rule PT-14
	name, err := c.pathName("templateName", limitTemplateName)
	if err != nil {
		return nil, err
	}
	t, err := templates.get(c.tx, c.key(name))
	if err == nil && t == nil {
		err = notFound("Provisioning template %s does not exist", name)
	}
	return t, err
}

func describeTemplate(c *call) (any, error) {
	t, err := c.existingTemplate()
	if err != nil {
		return nil, err
	}
	answer := c.templateSummary(t)
	answer["defaultVersionId"], answer["templateBody"], answer["provisioningRoleArn"] = t.Default, t.body(), t.Role
	return answer, nil
}

func (c *call) templateSummary(t *template) object {
	return object{
		"templateArn": c.templateARN(t.Name), "templateName": t.Name, "description": t.Description, "enabled": t.Enabled,
		"type": t.Type, "creationDate": epoch(t.Created), "lastModifiedDate": epoch(t.Modified),
	}
}

func listTemplates(c *call) (any, error) {
	s, err := c.paging("maxResults", "nextToken")
	if err != nil {
		return nil, err
	}
	s.prefix = c.key("")
	items, answer, err := page(c.tx, templates, s, "nextToken", func(t *template) (any, error) { return c.templateSummary(t), nil })
	if err != nil {
		return nil, err
	}
	answer["templates"] = items
	return answer, nil
}

func (c *call) putTemplate(t *template) error {
	t.Modified = c.tx.now
	return templates.put(c.tx, c.key(t.Name), t)
}

// updateTemplate changes everything but the body (PT-15).
func updateTemplate(c *call) (any, error) {
	t, err := c.existingTemplate()
	if err != nil {
		return nil, err
	}
	var in templateInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := in.apply(t); err != nil {
		return nil, err
	}
	if id := in.DefaultVersionID; id != nil {
		if byID(t.Versions, strconv.Itoa(*id)) == nil {
			return nil, notFound("Version %d of provisioning template %s does not exist", *id, t.Name)
		}
		t.Default = *id
	}
	return object{}, c.putTemplate(t)
}

// deleteTemplate takes all versions along; a template that a CA names stays (PT-08).
func deleteTemplate(c *call) (any, error) {
	t, err := c.existingTemplate()
	if err != nil {
		return nil, err
	}
	cas, err := caCertificates.all(c.tx, c.key(""))
	if err != nil {
		return nil, err
	}
	for _, ca := range cas {
		if ca.Config != nil && ca.Config.TemplateName == t.Name {
			return nil, deleteConflict("Provisioning template %s is in use by CA certificate %s", t.Name, ca.ID)
		}
	}
	return object{}, templates.delete(c.tx, c.key(t.Name))
}

func createTemplateVersion(c *call) (any, error) {
	t, err := c.existingTemplate()
	if err != nil {
		return nil, err
	}
	var in templateInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := checkTemplateBody(t.Type, in.TemplateBody); err != nil {
		return nil, err
	}
	isDefault, err := c.flag("setAsDefault")
	if err != nil {
		return nil, err
	}
	if len(t.Versions) >= maxTemplateVersions { // rule PT-06
		return nil, refuse(http.StatusConflict, "VersionsLimitExceededException", "Provisioning template %s already has %d versions", t.Name, maxTemplateVersions)
	}
	t.Last++
	t.Versions = append(t.Versions, version{strconv.Itoa(t.Last), in.TemplateBody, c.tx.now})
	if isDefault {
		t.Default = t.Last
	}
	return object{
		"templateArn": c.templateARN(t.Name), "templateName": t.Name, "versionId": t.Last, "isDefaultVersion": isDefault,
	}, c.putTemplate(t)
}

func (t *template) describeVersion(v version) (object, error) {
	id, err := strconv.Atoi(v.ID)
	return object{"versionId": id, "creationDate": epoch(v.Created), "isDefaultVersion": id == t.Default}, err
}

func listTemplateVersions(c *call) (any, error) {
	t, err := c.existingTemplate()
	if err != nil {
		return nil, err
	}
	list := make([]object, len(t.Versions))
	for i, v := range t.Versions {
		if list[i], err = t.describeVersion(v); err != nil {
			return nil, err
		}
	}
	return object{"versions": list}, nil
}

func (c *call) existingTemplateVersion() (*template, *version, error) {
	t, err := c.existingTemplate()
	if err != nil {
		return nil, nil, err
	}
	v := byID(t.Versions, c.r.PathValue("versionId"))
	if v == nil {
		return nil, nil, notFound("Version %s of provisioning template %s does not exist", c.r.PathValue("versionId"), t.Name)
	}
	return t, v, nil
}

func describeTemplateVersion(c *call) (any, error) {
	t, v, err := c.existingTemplateVersion()
	if err != nil {
		return nil, err
	}
	answer, err := t.describeVersion(*v)
	answer["templateBody"] = v.Body
	return answer, err
}

func deleteTemplateVersion(c *call) (any, error) {
	t, v, err := c.existingTemplateVersion()
	if err != nil {
		return nil, err
	}
	if v.ID == strconv.Itoa(t.Default) { // rule PT-08
		return nil, deleteConflict("The default version of provisioning template %s cannot be deleted", t.Name)
	}
	id := v.ID // v points into what is being cut
	t.Versions = slices.DeleteFunc(t.Versions, func(v version) bool { return v.ID == id })
	return object{}, c.putTemplate(t)
}
