package awsim

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

func lambdaOperations() []operation {
	const functions = "/2015-03-31/functions"
	return []operation{
		{"CreateFunction", "POST " + functions, true, createFunction},
		{"GetFunction", "GET " + functions + "/{name}", false, getFunction},
		{"GetFunctionConfiguration", "GET " + functions + "/{name}/configuration", false, getFunctionConfiguration},
		{"UpdateFunctionConfiguration", "PUT " + functions + "/{name}/configuration", true, updateFunctionConfiguration},
		{"AddPermission", "POST " + functions + "/{name}/policy", true, addPermission},
		{"GetPolicy", "GET " + functions + "/{name}/policy", false, getFunctionPolicy},
		{"RemovePermission", "DELETE " + functions + "/{name}/policy/{sid}", true, removePermission},
	}
}

// function is a Lambda function. Every function is there: in its code it is certmill's JITR handler, whatever was uploaded.
type function struct {
	Name        string            `json:"name"`
	Environment map[string]string `json:"environment,omitempty"`
	Permissions []permission      `json:"permissions,omitempty"`
	Modified    time.Time         `json:"modified"`
}

// permission is a statement of the function's resource policy.
type permission struct {
	SID  string          `json:"sid"`
	Text json.RawMessage `json:"text"`
}

const functions table[function] = "functions"

// functionName takes a function's name, partial ARN or ARN.
func functionName(text string) string {
	parts := strings.Split(text, ":")
	if i := slices.Index(parts, "function"); i >= 0 && i+1 < len(parts) {
		return parts[i+1]
	}
	return parts[0]
}

func (p place) functionARN(name string) string {
	return "arn:aws:lambda:" + p.region + ":" + p.account + ":function:" + name
}

// functionNamed gives a function, as it is where nobody has said anything about it.
func functionNamed(tx *tx, at place, name string) (*function, error) {
	f, err := functions.get(tx, at.key(name))
	if err != nil || f != nil {
		return f, err
	}
	return &function{Name: name}, nil
}

func (c *call) function() (*function, error) {
	return functionNamed(c.tx, c.place, functionName(c.r.PathValue("name")))
}

func (c *call) putFunction(f *function) error {
	f.Modified = c.tx.now
	return functions.put(c.tx, c.key(f.Name), f)
}

func (c *call) configuration(f *function) object {
	return object{
		"FunctionName": f.Name, "FunctionArn": c.functionARN(f.Name), "Runtime": "provided.al2023", "Handler": "bootstrap",
		"Environment": object{"Variables": orEmpty(f.Environment)}, "LastModified": f.Modified.Format("2006-01-02T15:04:05.000+0000"),
		"State": "Active", "LastUpdateStatus": "Successful", "Version": "$LATEST", "PackageType": "Zip",
	}
}

// functionInput is as much of CreateFunction and UpdateFunctionConfiguration as means anything here.
type functionInput struct {
	FunctionName string
	Environment  *struct{ Variables map[string]string }
}

func createFunction(c *call) (any, error) {
	var in functionInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	f, err := functionNamed(c.tx, c.place, functionName(in.FunctionName))
	if err != nil {
		return nil, err
	}
	return c.configure(f, in)
}

func updateFunctionConfiguration(c *call) (any, error) {
	var in functionInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	f, err := c.function()
	if err != nil {
		return nil, err
	}
	return c.configure(f, in)
}

func (c *call) configure(f *function, in functionInput) (any, error) {
	if in.Environment != nil {
		f.Environment = in.Environment.Variables
	}
	if err := c.putFunction(f); err != nil {
		return nil, err
	}
	return c.configuration(f), nil
}

func getFunction(c *call) (any, error) {
	f, err := c.function()
	if err != nil {
		return nil, err
	}
	return object{"Configuration": c.configuration(f)}, nil
}

func getFunctionConfiguration(c *call) (any, error) {
	f, err := c.function()
	if err != nil {
		return nil, err
	}
	return c.configuration(f), nil
}

func addPermission(c *call) (any, error) {
	f, err := c.function()
	if err != nil {
		return nil, err
	}
	var in struct{ StatementId, Action, Principal, SourceArn, SourceAccount string }
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.StatementId == "" || in.Action == "" || in.Principal == "" {
		return nil, refuse(http.StatusBadRequest, "InvalidParameterValueException", "StatementId, Action and Principal are required")
	}
	if slices.ContainsFunc(f.Permissions, func(p permission) bool { return p.SID == in.StatementId }) {
		return nil, refuse(http.StatusConflict, "ResourceConflictException", "The statement id (%s) provided already exists.", in.StatementId)
	}
	who := object{"Service": in.Principal}
	if !strings.Contains(in.Principal, ".") {
		who = object{"AWS": in.Principal}
	}
	s := object{"Sid": in.StatementId, "Effect": "Allow", "Principal": who, "Action": in.Action, "Resource": c.functionARN(f.Name)}
	conditions := object{}
	if in.SourceAccount != "" {
		conditions["StringEquals"] = object{"AWS:SourceAccount": in.SourceAccount}
	}
	if in.SourceArn != "" {
		conditions["ArnLike"] = object{"AWS:SourceArn": in.SourceArn}
	}
	if len(conditions) > 0 {
		s["Condition"] = conditions
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	f.Permissions = append(f.Permissions, permission{in.StatementId, text})
	return object{"Statement": string(text)}, c.putFunction(f)
}

// policy is the function's resource policy.
func (f *function) policy() (string, error) {
	statements := make([]json.RawMessage, len(f.Permissions))
	for i, p := range f.Permissions {
		statements[i] = p.Text
	}
	text, err := json.Marshal(object{"Version": "2012-10-17", "Id": "default", "Statement": statements})
	return string(text), err
}

func noPolicy(name string) error {
	return refuse(http.StatusNotFound, "ResourceNotFoundException", "The resource you requested does not exist: %s", name)
}

func getFunctionPolicy(c *call) (any, error) {
	f, err := c.function()
	if err != nil {
		return nil, err
	}
	if len(f.Permissions) == 0 {
		return nil, noPolicy(f.Name)
	}
	text, err := f.policy()
	return object{"Policy": text, "RevisionId": rand.Text()}, err
}

func removePermission(c *call) (any, error) {
	f, err := c.function()
	if err != nil {
		return nil, err
	}
	sid := c.r.PathValue("sid")
	i := slices.IndexFunc(f.Permissions, func(p permission) bool { return p.SID == sid })
	if i < 0 {
		return nil, noPolicy(f.Name)
	}
	f.Permissions = slices.Delete(f.Permissions, i, i+1)
	return nil, c.putFunction(f)
}

// invokable reports whether AWS IoT may invoke the function for a rule.
func (f *function) invokable(at place, rule string) (bool, error) {
	if len(f.Permissions) == 0 {
		return false, nil
	}
	text, err := f.policy()
	if err != nil {
		return false, err
	}
	d, err := parseDocument(text)
	if err != nil {
		return false, errors.Join(errors.New("function policy"), err)
	}
	return allowed([]*document{d}, access{
		action: "lambda:InvokeFunction", resource: at.functionARN(f.Name), by: &actor{service: "iot.amazonaws.com"},
		vars: map[string]string{"aws:sourceaccount": at.account, "aws:sourcearn": at.arn("rule/" + rule)},
	}), nil
}
