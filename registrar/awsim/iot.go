package awsim

// iotOperations are those of AWS IoT's control plane (rules section 1.3). What is not here answers as unknown.
func iotOperations() []operation {
	const write, read = true, false
	return []operation{
		{"GetRegistrationCode", "GET /registrationcode", write, getRegistrationCode},
		{"DeleteRegistrationCode", "DELETE /registrationcode", write, deleteRegistrationCode},
		{"RegisterCACertificate", "POST /cacertificate", write, registerCACertificate},
		{"DescribeCACertificate", "GET /cacertificate/{caCertificateId}", read, describeCACertificate},
		{"UpdateCACertificate", "PUT /cacertificate/{caCertificateId}", write, updateCACertificate},
		{"DeleteCACertificate", "DELETE /cacertificate/{caCertificateId}", write, deleteCACertificate},
		{"ListCACertificates", "GET /cacertificates", read, listCACertificates},

		{"RegisterCertificate", "POST /certificate/register", write, registerCertificate},
		{"RegisterCertificateWithoutCA", "POST /certificate/register-no-ca", write, registerCertificateWithoutCA},
		{"DescribeCertificate", "GET /certificates/{certificateId}", read, describeCertificate},
		{"UpdateCertificate", "PUT /certificates/{certificateId}", write, updateCertificate},
		{"DeleteCertificate", "DELETE /certificates/{certificateId}", write, deleteCertificate},
		{"ListCertificates", "GET /certificates", read, listCertificates},
		{"ListCertificatesByCA", "GET /certificates-by-ca/{caCertificateId}", read, listCertificatesByCA},

		{"CreateThing", "POST /things/{thingName}", write, createThing},
		{"DescribeThing", "GET /things/{thingName}", read, describeThing},
		{"UpdateThing", "PATCH /things/{thingName}", write, updateThing},
		{"DeleteThing", "DELETE /things/{thingName}", write, deleteThing},
		{"ListThings", "GET /things", read, listThings},
		{"AttachThingPrincipal", "PUT /things/{thingName}/principals", write, attachThingPrincipal},
		{"DetachThingPrincipal", "DELETE /things/{thingName}/principals", write, detachThingPrincipal},
		{"ListThingPrincipals", "GET /things/{thingName}/principals", read, listThingPrincipals},
		{"ListPrincipalThings", "GET /principals/things", read, listPrincipalThings},

		{"CreatePolicy", "POST /policies/{policyName}", write, createPolicy},
		{"GetPolicy", "GET /policies/{policyName}", read, getPolicy},
		{"DeletePolicy", "DELETE /policies/{policyName}", write, deletePolicy},
		{"ListPolicies", "GET /policies", read, listPolicies},
		{"CreatePolicyVersion", "POST /policies/{policyName}/version", write, createPolicyVersion},
		{"ListPolicyVersions", "GET /policies/{policyName}/version", read, listPolicyVersions},
		{"GetPolicyVersion", "GET /policies/{policyName}/version/{policyVersionId}", read, getPolicyVersion},
		{"SetDefaultPolicyVersion", "PATCH /policies/{policyName}/version/{policyVersionId}", write, setDefaultPolicyVersion},
		{"DeletePolicyVersion", "DELETE /policies/{policyName}/version/{policyVersionId}", write, deletePolicyVersion},
		{"AttachPolicy", "PUT /target-policies/{policyName}", write, attachPolicy},
		{"DetachPolicy", "POST /target-policies/{policyName}", write, detachPolicy},
		{"ListAttachedPolicies", "POST /attached-policies/{target}", read, listAttachedPolicies},
		{"ListTargetsForPolicy", "POST /policy-targets/{policyName}", read, listTargetsForPolicy},

		{"CreateProvisioningTemplate", "POST /provisioning-templates", write, createTemplate},
		{"ListProvisioningTemplates", "GET /provisioning-templates", read, listTemplates},
		{"DescribeProvisioningTemplate", "GET /provisioning-templates/{templateName}", read, describeTemplate},
		{"UpdateProvisioningTemplate", "PATCH /provisioning-templates/{templateName}", write, updateTemplate},
		{"DeleteProvisioningTemplate", "DELETE /provisioning-templates/{templateName}", write, deleteTemplate},
		{"CreateProvisioningTemplateVersion", "POST /provisioning-templates/{templateName}/versions", write, createTemplateVersion},
		{"ListProvisioningTemplateVersions", "GET /provisioning-templates/{templateName}/versions", read, listTemplateVersions},
		{"DescribeProvisioningTemplateVersion", "GET /provisioning-templates/{templateName}/versions/{versionId}", read, describeTemplateVersion},
		{"DeleteProvisioningTemplateVersion", "DELETE /provisioning-templates/{templateName}/versions/{versionId}", write, deleteTemplateVersion},

		{"CreateTopicRule", "POST /rules/{ruleName}", write, createTopicRule},
		{"GetTopicRule", "GET /rules/{ruleName}", read, getTopicRule},
		{"ReplaceTopicRule", "PATCH /rules/{ruleName}", write, replaceTopicRule},
		{"DeleteTopicRule", "DELETE /rules/{ruleName}", write, deleteTopicRule},
		{"ListTopicRules", "GET /rules", read, listTopicRules},

		{"DescribeEndpoint", "GET /endpoint", write, describeEndpoint},
		{"DescribeEventConfigurations", "GET /event-configurations", read, describeEventConfigurations},
		{"UpdateEventConfigurations", "PATCH /event-configurations", write, updateEventConfigurations},
		{"TagResource", "POST /tags", write, tagResource},
		{"UntagResource", "POST /untag", write, untagResource},
		{"ListTagsForResource", "GET /tags", read, listTagsForResource},
	}
}
