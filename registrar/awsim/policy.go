package awsim

import (
	"crypto/rand"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// policy is a policy of AWS IoT with its versions; the default one counts.
type policy struct {
	Name       string    `json:"name"`
	Default    string    `json:"default"`
	Last       int       `json:"last"` // number of the newest version ever made
	Versions   []version `json:"versions"`
	Created    time.Time `json:"created"`
	Modified   time.Time `json:"modified"`
	Generation string    `json:"generation"`
}

// version is one document of a policy or template.
type version struct {
	ID      string    `json:"id"`
	Body    string    `json:"body"`
	Created time.Time `json:"created"`
}

const (
	policies      table[policy] = "policies"
	policyTargets relation      = "policy-targets" // policy → certificates
)

// Quotas of policies (rules section 9).
const (
	maxPolicyText     = 2048 // characters that are not white space
	maxPolicyVersions = 5
	maxAttached       = 10
)

// byID finds a version.
func byID(versions []version, id string) *version {
	i := slices.IndexFunc(versions, func(v version) bool { return v.ID == id })
	if i < 0 {
		return nil
	}
	return &versions[i]
}

func checkPolicyDocument(text string) error {
	if err := limitPolicy.check(text); err != nil {
		return err
	}
	dense := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
	if len(dense) > maxPolicyText {
		return refuse(http.StatusBadRequest, "MalformedPolicyException", "Policy document is larger than %d characters", maxPolicyText)
	}
	if _, err := parseDocument(text); err != nil {
		return refuse(http.StatusBadRequest, "MalformedPolicyException", "Policy document is malformed: %v", err)
	}
	return nil
}

// makePolicy is CreatePolicy.
func makePolicy(tx *tx, at place, name, document string) (*policy, error) {
	if err := limitPolicyName.check(name); err != nil {
		return nil, err
	}
	if err := checkPolicyDocument(document); err != nil {
		return nil, err
	}
	there, err := policies.get(tx, at.key(name))
	if err != nil {
		return nil, err
	}
	if there != nil {
		return nil, alreadyExists(name, at.arn("policy/"+name), "Policy cannot be created - name already exists (name=%s)", name)
	}
	p := &policy{
		Name: name, Default: "1", Last: 1, Versions: []version{{"1", document, tx.now}},
		Created: tx.now, Modified: tx.now, Generation: rand.Text(),
	}
	return p, policies.put(tx, at.key(name), p)
}

// documentInput is the body of CreatePolicy and CreatePolicyVersion.
type documentInput struct {
	PolicyDocument string `json:"policyDocument"`
	Tags           []tag  `json:"tags"`
}

func createPolicy(c *call) (any, error) {
	name, err := c.pathName("policyName", limitPolicyName)
	if err != nil {
		return nil, err
	}
	var in documentInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	p, err := makePolicy(c.tx, c.place, name, in.PolicyDocument)
	if err != nil {
		return nil, err
	}
	arn := c.arn("policy/" + name)
	return object{
		"policyName": name, "policyArn": arn, "policyDocument": in.PolicyDocument, "policyVersionId": p.Default,
	}, setTags(c.tx, c.place, arn, in.Tags)
}

func (c *call) existingPolicy() (*policy, error) {
	name, err := c.pathName("policyName", limitPolicyName)
	if err != nil {
		return nil, err
	}
	p, err := policies.get(c.tx, c.key(name))
	if err == nil && p == nil {
		err = notFound("Policy not found: %s", name)
	}
	return p, err
}

func getPolicy(c *call) (any, error) {
	p, err := c.existingPolicy()
	if err != nil {
		return nil, err
	}
	return object{
		"policyName": p.Name, "policyArn": c.arn("policy/" + p.Name), "policyDocument": byID(p.Versions, p.Default).Body,
		"defaultVersionId": p.Default, "creationDate": epoch(p.Created), "lastModifiedDate": epoch(p.Modified), "generationId": p.Generation,
	}, nil
}

func deletePolicy(c *call) (any, error) {
	p, err := c.existingPolicy()
	if err != nil {
		return nil, err
	}
	targets, err := policyTargets.rights(c.tx, c.place, p.Name)
	if err != nil {
		return nil, err
	}
	if len(targets) > 0 || len(p.Versions) > 1 {
		return nil, deleteConflict("The policy cannot be deleted as it is attached, or has versions besides the default one (name=%s)", p.Name)
	}
	return nil, policies.delete(c.tx, c.key(p.Name))
}

func listPolicies(c *call) (any, error) {
	s, err := c.paging("pageSize", "marker")
	if err != nil {
		return nil, err
	}
	s.prefix = c.key("")
	items, answer, err := page(c.tx, policies, s, "nextMarker", func(p *policy) (any, error) {
		return object{"policyName": p.Name, "policyArn": c.arn("policy/" + p.Name)}, nil
	})
	if err != nil {
		return nil, err
	}
	answer["policies"] = items
	return answer, nil
}

func createPolicyVersion(c *call) (any, error) {
	p, err := c.existingPolicy()
	if err != nil {
		return nil, err
	}
	var in documentInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := checkPolicyDocument(in.PolicyDocument); err != nil {
		return nil, err
	}
	isDefault, err := c.flag("setAsDefault")
	if err != nil {
		return nil, err
	}
	if len(p.Versions) >= maxPolicyVersions {
		return nil, refuse(http.StatusConflict, "VersionsLimitExceededException", "The policy %s already has the maximum number of versions (%d)", p.Name, maxPolicyVersions)
	}
	p.Last++
	v := version{strconv.Itoa(p.Last), in.PolicyDocument, c.tx.now}
	p.Versions = append(p.Versions, v)
	if isDefault {
		p.Default = v.ID
	}
	return object{
		"policyArn": c.arn("policy/" + p.Name), "policyDocument": v.Body, "policyVersionId": v.ID, "isDefaultVersion": isDefault,
	}, c.putPolicy(p)
}

func (c *call) putPolicy(p *policy) error {
	p.Modified, p.Generation = c.tx.now, rand.Text()
	return policies.put(c.tx, c.key(p.Name), p)
}

func listPolicyVersions(c *call) (any, error) {
	p, err := c.existingPolicy()
	if err != nil {
		return nil, err
	}
	list := make([]object, len(p.Versions))
	for i, v := range p.Versions {
		list[i] = object{"versionId": v.ID, "isDefaultVersion": v.ID == p.Default, "createDate": epoch(v.Created)}
	}
	return object{"policyVersions": list}, nil
}

func (c *call) existingPolicyVersion() (*policy, *version, error) {
	p, err := c.existingPolicy()
	if err != nil {
		return nil, nil, err
	}
	v := byID(p.Versions, c.r.PathValue("policyVersionId"))
	if v == nil {
		return nil, nil, notFound("Policy version not found: %s of %s", c.r.PathValue("policyVersionId"), p.Name)
	}
	return p, v, nil
}

func getPolicyVersion(c *call) (any, error) {
	p, v, err := c.existingPolicyVersion()
	if err != nil {
		return nil, err
	}
	return object{
		"policyName": p.Name, "policyArn": c.arn("policy/" + p.Name), "policyDocument": v.Body, "policyVersionId": v.ID,
		"isDefaultVersion": v.ID == p.Default, "creationDate": epoch(v.Created), "lastModifiedDate": epoch(v.Created), "generationId": p.Generation,
	}, nil
}

func setDefaultPolicyVersion(c *call) (any, error) {
	p, v, err := c.existingPolicyVersion()
	if err != nil {
		return nil, err
	}
	p.Default = v.ID
	return nil, c.putPolicy(p)
}

func deletePolicyVersion(c *call) (any, error) {
	p, v, err := c.existingPolicyVersion()
	if err != nil {
		return nil, err
	}
	if v.ID == p.Default {
		return nil, deleteConflict("Cannot delete the default version of a policy")
	}
	id := v.ID // v points into what is being cut
	p.Versions = slices.DeleteFunc(p.Versions, func(v version) bool { return v.ID == id })
	return nil, c.putPolicy(p)
}

func attachPolicy(c *call) (any, error) {
	p, cert, err := c.policyAndTarget()
	if err != nil {
		return nil, err
	}
	return nil, attach(c.tx, c.place, p.Name, cert.ID)
}

// attach is fine when repeated (DC-43).
func attach(tx *tx, at place, policy, cert string) error {
	have, err := policyTargets.lefts(tx, at, cert)
	if err != nil {
		return err
	}
	if slices.Contains(keys(have), policy) {
		return nil
	}
	if len(have) >= maxAttached {
		return limitExceeded("The maximum number of policies per target is %d", maxAttached)
	}
	return policyTargets.add(tx, at, policy, cert, "")
}

func detachPolicy(c *call) (any, error) {
	p, cert, err := c.policyAndTarget()
	if err != nil {
		return nil, err
	}
	return nil, policyTargets.remove(c.tx, c.place, p.Name, cert.ID)
}

func (c *call) policyAndTarget() (*policy, *certificate, error) {
	p, err := c.existingPolicy()
	if err != nil {
		return nil, nil, err
	}
	var in struct {
		Target string `json:"target"`
	}
	if err := c.decode(&in); err != nil {
		return nil, nil, err
	}
	cert, err := c.principal(in.Target)
	return p, cert, err
}

func listAttachedPolicies(c *call) (any, error) {
	cert, err := c.principal(c.r.PathValue("target"))
	if err != nil {
		return nil, err
	}
	attached, err := policyTargets.lefts(c.tx, c.place, cert.ID)
	list := make([]object, len(attached))
	for i, p := range attached {
		list[i] = object{"policyName": p.key, "policyArn": c.arn("policy/" + p.key)}
	}
	return object{"policies": list}, err
}

func listTargetsForPolicy(c *call) (any, error) {
	p, err := c.existingPolicy()
	if err != nil {
		return nil, err
	}
	targets, err := policyTargets.rights(c.tx, c.place, p.Name)
	arns := make([]string, len(targets))
	for i, t := range targets {
		arns[i] = c.arn("cert/" + t.key)
	}
	return object{"targets": arns}, err
}

// attachExisting attaches a policy by name; there must be one.
func attachExisting(tx *tx, at place, name, cert string) error {
	p, err := policies.get(tx, at.key(name))
	if err != nil {
		return err
	}
	if p == nil {
		return notFound("Policy not found: %s", name)
	}
	return attach(tx, at, name, cert)
}
