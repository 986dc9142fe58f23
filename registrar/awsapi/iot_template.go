package awsapi

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Template is a provisioning template and its default version's body.
type Template struct {
	Name, Body, Role string
	Type             string // JITP or FLEET_PROVISIONING (PT-01)
	Enabled          bool
}

// TemplateVersion is one of the five that a template can have (PT-06).
type TemplateVersion struct {
	ID      int32
	Default bool
}

// Template looks a provisioning template up by its name.
func (t *Target) Template(ctx context.Context, name string) (Template, error) {
	out, err := t.iot.DescribeProvisioningTemplate(ctx, &iot.DescribeProvisioningTemplateInput{TemplateName: &name})
	if err != nil {
		return Template{}, classified("DescribeProvisioningTemplate", err)
	}
	return Template{
		Name: name, Body: aws.ToString(out.TemplateBody), Role: aws.ToString(out.ProvisioningRoleArn),
		Type: string(out.Type), Enabled: aws.ToBool(out.Enabled),
	}, nil
}

// CreateTemplate makes a provisioning template.
func (t *Target) CreateTemplate(ctx context.Context, w Template, tags map[string]string) error {
	_, err := t.iot.CreateProvisioningTemplate(ctx, &iot.CreateProvisioningTemplateInput{
		TemplateName: &w.Name, TemplateBody: &w.Body, ProvisioningRoleArn: &w.Role,
		Type: types.TemplateType(w.Type), Enabled: &w.Enabled, Tags: iotTags(tags),
	}, iotWrite)
	return classified("CreateProvisioningTemplate", err)
}

// CreateTemplateVersion gives a template a new body, used from now on (PT-15). Calling it twice makes two versions.
func (t *Target) CreateTemplateVersion(ctx context.Context, name, body string) error {
	_, err := t.iot.CreateProvisioningTemplateVersion(ctx, &iot.CreateProvisioningTemplateVersionInput{
		TemplateName: &name, TemplateBody: &body, SetAsDefault: true,
	}, iotWrite)
	return classified("CreateProvisioningTemplateVersion", err)
}

// SetTemplate changes role and enabled flag, never the body (PT-15).
func (t *Target) SetTemplate(ctx context.Context, w Template) error {
	_, err := t.iot.UpdateProvisioningTemplate(ctx, &iot.UpdateProvisioningTemplateInput{
		TemplateName: &w.Name, ProvisioningRoleArn: &w.Role, Enabled: &w.Enabled,
	}, iotWrite)
	return classified("UpdateProvisioningTemplate", err)
}

// TemplateVersions lists the versions of a template.
func (t *Target) TemplateVersions(ctx context.Context, name string) ([]TemplateVersion, error) {
	var all []TemplateVersion
	pages := iot.NewListProvisioningTemplateVersionsPaginator(t.iot, &iot.ListProvisioningTemplateVersionsInput{TemplateName: &name})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return nil, classified("ListProvisioningTemplateVersions", err)
		}
		for _, v := range out.Versions {
			all = append(all, TemplateVersion{ID: aws.ToInt32(v.VersionId), Default: v.IsDefaultVersion})
		}
	}
	return all, nil
}

// DeleteTemplateVersion removes a version that is not the default (PT-08).
func (t *Target) DeleteTemplateVersion(ctx context.Context, name string, id int32) error {
	_, err := t.iot.DeleteProvisioningTemplateVersion(ctx, &iot.DeleteProvisioningTemplateVersionInput{TemplateName: &name, VersionId: &id}, iotWrite)
	return classified("DeleteProvisioningTemplateVersion", err)
}
