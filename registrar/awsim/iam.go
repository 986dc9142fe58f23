package awsim

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const iamNamespace = "https://iam.amazonaws.com/doc/2010-05-08/"

// iamOperations are those with which a role for provisioning is made. IAM belongs to the account, not to a region.
func iamOperations() []operation {
	return []operation{
		{name: "CreateRole", write: true, serve: createRole},
		{name: "GetRole", serve: getRole},
		{name: "DeleteRole", write: true, serve: deleteRole},
		{name: "UpdateAssumeRolePolicy", write: true, serve: updateAssumeRolePolicy},
		{name: "TagRole", write: true, serve: tagRole},
		{name: "ListRoleTags", serve: listRoleTags},
		{name: "PutRolePolicy", write: true, serve: putRolePolicy},
		{name: "GetRolePolicy", serve: getRolePolicy},
		{name: "DeleteRolePolicy", write: true, serve: deleteRolePolicy},
		{name: "ListRolePolicies", serve: listRolePolicies},
		{name: "AttachRolePolicy", write: true, serve: attachRolePolicy},
		{name: "DetachRolePolicy", write: true, serve: detachRolePolicy},
		{name: "ListAttachedRolePolicies", serve: listAttachedRolePolicies},
	}
}

// role is an IAM role that was made here.
type role struct {
	Name        string            `json:"name"`
	Path        string            `json:"path"`
	ID          string            `json:"id"`
	Description string            `json:"description,omitempty"`
	Trust       string            `json:"trust"`
	MaxSession  int               `json:"max_session"` // seconds
	Inline      map[string]string `json:"inline,omitempty"`
	Attached    []string          `json:"attached,omitempty"` // ARNs
	Tags        map[string]string `json:"tags,omitempty"`
	Created     time.Time         `json:"created"`
}

const roles table[role] = "roles"

var iamName = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)

func (r *role) arn(account string) string {
	return "arn:aws:iam::" + account + ":role" + r.Path + r.Name
}

// roleXML is a role as answers have it.
type roleXML struct {
	Path, RoleName, RoleId, Arn, CreateDate, AssumeRolePolicyDocument string

	Description        string `xml:",omitempty"`
	MaxSessionDuration int
	Tags               []tag `xml:"Tags>member"`
}

func (r *role) xml(account string) roleXML {
	return roleXML{
		Path: r.Path, RoleName: r.Name, RoleId: r.ID, Arn: r.arn(account), CreateDate: r.Created.Format(time.RFC3339),
		AssumeRolePolicyDocument: escape(r.Trust, false), Description: r.Description, MaxSessionDuration: r.MaxSession, Tags: tagList(r.Tags),
	}
}

// roleAnswer is the result of CreateRole and GetRole.
type roleAnswer struct{ Role roleXML }

func noSuchEntity(format string, args ...any) error {
	return refuse(http.StatusNotFound, "NoSuchEntity", format, args...)
}

func (c *call) existingRole(form url.Values) (*role, error) {
	name := form.Get("RoleName")
	r, err := roles.get(c.tx, global(c.account).key(name))
	if err == nil && r == nil {
		err = noSuchEntity("The role with name %s cannot be found.", name)
	}
	return r, err
}

func (c *call) putRole(r *role) error { return roles.put(c.tx, global(c.account).key(r.Name), r) }

func checkIAMDocument(text string) error {
	if _, err := parseDocument(text); err != nil {
		return refuse(http.StatusBadRequest, "MalformedPolicyDocument", "%v", err)
	}
	return nil
}

func createRole(c *call) (any, error) {
	form := c.form()
	r := &role{
		Name: form.Get("RoleName"), Path: form.Get("Path"), Description: form.Get("Description"),
		Trust: form.Get("AssumeRolePolicyDocument"), MaxSession: 3600, Created: c.tx.now,
	}
	if r.Path == "" {
		r.Path = "/"
	}
	if !iamName.MatchString(r.Name) || len(r.Name) > 64 {
		return nil, validationError("The specified value for roleName is invalid")
	}
	if v := form.Get("MaxSessionDuration"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 3600 || n > 43200 {
			return nil, validationError("Value '%s' at 'maxSessionDuration' failed to satisfy constraint", v)
		}
		r.MaxSession = n
	}
	if err := checkIAMDocument(r.Trust); err != nil {
		return nil, err
	}
	there, err := roles.get(c.tx, global(c.account).key(r.Name))
	if err != nil {
		return nil, err
	}
	if there != nil {
		return nil, refuse(http.StatusConflict, "EntityAlreadyExists", "Role with name %s already exists.", r.Name)
	}
	r.ID = "AROA" + strings.ToUpper(digest([]byte(r.arn(c.account)))[:17])
	r.tag(formTags(form))
	return roleAnswer{r.xml(c.account)}, c.putRole(r)
}

func (r *role) tag(list []tag) {
	r.Tags = orEmpty(r.Tags)
	for _, t := range list {
		r.Tags[t.Key] = t.Value
	}
}

func getRole(c *call) (any, error) {
	r, err := c.existingRole(c.form())
	if err != nil {
		return nil, err
	}
	return roleAnswer{r.xml(c.account)}, nil
}

func deleteRole(c *call) (any, error) {
	r, err := c.existingRole(c.form())
	if err != nil {
		return nil, err
	}
	if len(r.Inline)+len(r.Attached) > 0 {
		return nil, refuse(http.StatusConflict, "DeleteConflict", "Cannot delete entity, must delete policies first.")
	}
	return nil, roles.delete(c.tx, global(c.account).key(r.Name))
}

// change runs an operation that changes a role and answers nothing.
func (c *call) change(how func(*role, url.Values) error) (any, error) {
	form := c.form()
	r, err := c.existingRole(form)
	if err != nil {
		return nil, err
	}
	if err := how(r, form); err != nil {
		return nil, err
	}
	return nil, c.putRole(r)
}

func updateAssumeRolePolicy(c *call) (any, error) {
	return c.change(func(r *role, form url.Values) error {
		r.Trust = form.Get("PolicyDocument")
		return checkIAMDocument(r.Trust)
	})
}

func tagRole(c *call) (any, error) {
	return c.change(func(r *role, form url.Values) error {
		r.tag(formTags(form))
		return nil
	})
}

func putRolePolicy(c *call) (any, error) {
	return c.change(func(r *role, form url.Values) error {
		if !iamName.MatchString(form.Get("PolicyName")) {
			return validationError("The specified value for policyName is invalid")
		}
		r.Inline = orEmpty(r.Inline)
		r.Inline[form.Get("PolicyName")] = form.Get("PolicyDocument")
		return checkIAMDocument(form.Get("PolicyDocument"))
	})
}

func deleteRolePolicy(c *call) (any, error) {
	return c.change(func(r *role, form url.Values) error {
		if _, ok := r.Inline[form.Get("PolicyName")]; !ok {
			return noSuchEntity("The role policy with name %s cannot be found.", form.Get("PolicyName"))
		}
		delete(r.Inline, form.Get("PolicyName"))
		return nil
	})
}

// attachRolePolicy takes policies of AWS only: customers' own cannot be made here.
func attachRolePolicy(c *call) (any, error) {
	return c.change(func(r *role, form url.Values) error {
		arn := form.Get("PolicyArn")
		if !strings.HasPrefix(arn, "arn:aws:iam::aws:policy/") {
			return noSuchEntity("Policy %s does not exist or is not attachable.", arn)
		}
		if !slices.Contains(r.Attached, arn) {
			r.Attached = append(r.Attached, arn)
		}
		return nil
	})
}

func detachRolePolicy(c *call) (any, error) {
	return c.change(func(r *role, form url.Values) error {
		i := slices.Index(r.Attached, form.Get("PolicyArn"))
		if i < 0 {
			return noSuchEntity("Policy %s was not found.", form.Get("PolicyArn"))
		}
		r.Attached = slices.Delete(r.Attached, i, i+1)
		return nil
	})
}

func listRoleTags(c *call) (any, error) {
	r, err := c.existingRole(c.form())
	if err != nil {
		return nil, err
	}
	return struct {
		Tags        []tag `xml:"Tags>member"`
		IsTruncated bool
	}{Tags: tagList(r.Tags)}, nil
}

func getRolePolicy(c *call) (any, error) {
	form := c.form()
	r, err := c.existingRole(form)
	if err != nil {
		return nil, err
	}
	text, ok := r.Inline[form.Get("PolicyName")]
	if !ok {
		return nil, noSuchEntity("The role policy with name %s cannot be found.", form.Get("PolicyName"))
	}
	return struct{ RoleName, PolicyName, PolicyDocument string }{r.Name, form.Get("PolicyName"), escape(text, false)}, nil
}

func listRolePolicies(c *call) (any, error) {
	r, err := c.existingRole(c.form())
	if err != nil {
		return nil, err
	}
	return struct {
		PolicyNames []string `xml:"PolicyNames>member"`
		IsTruncated bool
	}{PolicyNames: slices.Sorted(maps.Keys(r.Inline))}, nil
}

func listAttachedRolePolicies(c *call) (any, error) {
	r, err := c.existingRole(c.form())
	if err != nil {
		return nil, err
	}
	type attached struct{ PolicyName, PolicyArn string }
	var list []attached
	for _, arn := range r.Attached {
		list = append(list, attached{arn[strings.LastIndex(arn, "/")+1:], arn})
	}
	return struct {
		AttachedPolicies []attached `xml:"AttachedPolicies>member"`
		IsTruncated      bool
	}{AttachedPolicies: list}, nil
}

// managedRegistration is the managed policy that AWS offers for provisioning roles, with its actions (rules section 5.4).
const managedRegistration = "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"

func registrationActions() texts {
	return texts{
		"iot:AddThingToThingGroup", "iot:AttachPolicy", "iot:AttachPrincipalPolicy", "iot:AttachThingPrincipal",
		"iot:CreateCertificateFromCsr", "iot:CreatePolicy", "iot:CreateThing", "iot:DescribeCertificate", "iot:DescribeThing",
		"iot:DescribeThingGroup", "iot:DescribeThingType", "iot:DescribeBillingGroup", "iot:DetachPolicy", "iot:DetachThingPrincipal",
		"iot:GetPolicy", "iot:ListAttachedPolicies", "iot:ListPolicyPrincipals", "iot:ListPrincipalPolicies", "iot:ListPrincipalThings",
		"iot:ListTargetsForPolicy", "iot:ListThingGroupsForThing", "iot:ListThingPrincipals", "iot:RegisterCertificate", "iot:RegisterThing",
		"iot:RemoveThingFromThingGroup", "iot:UpdateCertificate", "iot:UpdateThing", "iot:UpdateThingGroupsForThing",
		"iot:AddThingToBillingGroup", "iot:RemoveThingFromBillingGroup",
	}
}

// documents are the rights of the role.
func (r *role) documents() ([]*document, error) {
	var all []*document
	var errs []error
	for _, text := range r.Inline {
		d, err := parseDocument(text)
		errs = append(errs, err)
		all = append(all, d)
	}
	if slices.Contains(r.Attached, managedRegistration) {
		all = append(all, &document{[]statement{{Effect: "Allow", Action: registrationActions(), Resource: texts{"*"}}}})
	}
	return all, errors.Join(errs...)
}
