package awsim

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// tag is a label on a resource.
type tag struct {
	Key   string `json:"Key"`
	Value string `json:"Value"`
}

// tags are kept under the ARN of their resource.
const tags table[map[string]string] = "tags"

const maxTags = 50

func checkTags(list []tag) error {
	if len(list) > maxTags {
		return invalidRequest("a resource has at most %d tags", maxTags)
	}
	for _, t := range list {
		if err := limitTagKey.check(t.Key); err != nil {
			return err
		}
		if err := limitTagValue.check(t.Value); err != nil {
			return err
		}
	}
	return nil
}

// setTags adds to those that are there.
func setTags(tx *tx, at place, arn string, list []tag) error {
	if len(list) == 0 {
		return nil
	}
	have, err := tags.get(tx, at.key(arn))
	if err != nil {
		return err
	}
	if have == nil {
		have = &map[string]string{}
	}
	for _, t := range list {
		(*have)[t.Key] = t.Value
	}
	if len(*have) > maxTags {
		return invalidRequest("a resource has at most %d tags", maxTags)
	}
	return tags.put(tx, at.key(arn), have)
}

// taggable finds the resource of an ARN; device certificates take no tags (CA-65).
func (c *call) taggable(arn string) error {
	what, ours := strings.CutPrefix(arn, c.arn(""))
	kind, id, _ := strings.Cut(what, "/")
	var there bool
	var err error
	switch {
	case !ours:
	case kind == "cacert":
		there, err = exists(c, caCertificates, id)
	case kind == "provisioningtemplate":
		there, err = exists(c, templates, id)
	case kind == "policy":
		there, err = exists(c, policies, id)
	case kind == "rule":
		there, err = exists(c, rules, id)
	default:
		return invalidRequest("resource %s cannot be tagged", arn)
	}
	if err == nil && !there {
		err = notFound("Resource %s does not exist", arn)
	}
	return err
}

func exists[T any](c *call, t table[T], id string) (bool, error) {
	v, err := t.get(c.tx, c.key(id))
	return v != nil, err
}

func tagResource(c *call) (any, error) {
	var in struct {
		ResourceARN string `json:"resourceArn"`
		Tags        []tag  `json:"tags"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := c.taggable(in.ResourceARN); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	return object{}, setTags(c.tx, c.place, in.ResourceARN, in.Tags)
}

func untagResource(c *call) (any, error) {
	var in struct {
		ResourceARN string   `json:"resourceArn"`
		TagKeys     []string `json:"tagKeys"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := c.taggable(in.ResourceARN); err != nil {
		return nil, err
	}
	have, err := tags.get(c.tx, c.key(in.ResourceARN))
	if err != nil || have == nil {
		return object{}, err
	}
	for _, key := range in.TagKeys {
		delete(*have, key)
	}
	return object{}, tags.put(c.tx, c.key(in.ResourceARN), have)
}

func listTagsForResource(c *call) (any, error) {
	arn := c.query("resourceArn")
	if err := c.taggable(arn); err != nil {
		return nil, err
	}
	have, err := tags.get(c.tx, c.key(arn))
	if err != nil {
		return nil, err
	}
	if have == nil {
		have = &map[string]string{}
	}
	return object{"tags": tagList(*have)}, nil
}

func tagList(m map[string]string) []tag {
	list := []tag{}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list = append(list, tag{key, m[key]})
	}
	return list
}

// headerTags reads tags written as a query string.
func headerTags(text string) ([]tag, error) {
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, invalidRequest("x-amz-tagging is not key1=value1&key2=value2")
	}
	var list []tag
	for _, key := range slices.Sorted(maps.Keys(values)) {
		list = append(list, tag{key, values.Get(key)})
	}
	return list, checkTags(list)
}
