package awsim

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// awsCLI is the AWS CLI, told to use the simulator.
type awsCLI struct {
	t   *testing.T
	env []string
}

// newCLI skips the test where there is no AWS CLI.
func newCLI(t *testing.T, s *Sim, account string) *awsCLI {
	t.Helper()
	if _, err := exec.LookPath("aws"); err != nil {
		t.Skip("the AWS CLI is not installed")
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent",
		"AWS_ENDPOINT_URL=" + s.Endpoint(), "AWS_REGION=" + region, "AWS_DEFAULT_REGION=" + region, "AWS_MAX_ATTEMPTS=1", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=" + account, "AWS_SECRET_ACCESS_KEY=anything",
	}
	return &awsCLI{t, env}
}

// run gives what the CLI prints: the object of --output json, or its message.
func (c *awsCLI) run(args ...string) (map[string]any, string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "aws", append(args, "--output", "json")...)
	cmd.Env = c.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, strings.TrimSpace(stderr.String())
	}
	out := map[string]any{}
	if stdout.Len() > 0 {
		if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
			c.t.Fatalf("aws %v: %v in %s", args, err, stdout.String())
		}
	}
	return out, ""
}

func (c *awsCLI) ok(args ...string) map[string]any {
	c.t.Helper()
	out, message := c.run(args...)
	if message != "" {
		c.t.Fatalf("aws %v: %s", args, message)
	}
	return out
}

// The registration of a CA as a person does it with the AWS CLI, by a role in another account (rules CA-05, CA-61, S-07).
func TestAWSCLI(t *testing.T) {
	s := start(t)
	home := newCLI(t, s, first)
	creds := home.ok("sts", "assume-role", "--role-arn", "arn:aws:iam::222222222222:role/registrar", "--role-session-name", "me")["Credentials"].(map[string]any)
	c := newCLI(t, s, "")
	c.env = append(c.env, "AWS_ACCESS_KEY_ID="+creds["AccessKeyId"].(string), "AWS_SECRET_ACCESS_KEY="+creds["SecretAccessKey"].(string),
		"AWS_SESSION_TOKEN="+creds["SessionToken"].(string))
	if who := c.ok("sts", "get-caller-identity"); who["Account"] != second || who["Arn"] != "arn:aws:sts::222222222222:assumed-role/registrar/me" {
		t.Fatalf("identity is %v", who)
	}

	ca := newAuthority(t, "Issuing")
	code := c.ok("iot", "get-registration-code")["registrationCode"].(string)
	id := c.ok("iot", "register-ca-certificate", "--ca-certificate", ca.pem, "--verification-certificate", ca.issue(t, code).pem,
		"--set-as-active", "--tags", "Key=product,Value=demo")["certificateId"].(string)
	if id != ca.id() {
		t.Errorf("id %s, want %s", id, ca.id())
	}
	c.ok("iot", "update-ca-certificate", "--certificate-id", id, "--new-auto-registration-status", "ENABLE")
	d := c.ok("iot", "describe-ca-certificate", "--certificate-id", id)["certificateDescription"].(map[string]any)
	if d["status"] != statusActive || d["autoRegistrationStatus"] != autoEnable || d["certificateMode"] != modeDefault || d["ownedBy"] != second {
		t.Errorf("described as %v", d)
	}
	if n := len(c.ok("iot", "list-ca-certificates")["certificates"].([]any)); n != 1 {
		t.Errorf("%d CAs are listed", n)
	}
	if _, message := c.run("iot", "register-ca-certificate", "--ca-certificate", ca.pem, "--certificate-mode", "SNI_ONLY"); !strings.Contains(message, "(ResourceAlreadyExistsException)") {
		t.Errorf("the second time: %s", message)
	}
	if _, message := c.run("iot", "create-job", "--job-id", "x", "--targets", "y"); !strings.Contains(message, "UnknownOperationException") {
		t.Errorf("an operation that is not simulated: %s", message)
	}
	if c.ok("iot", "list-tags-for-resource", "--resource-arn", "arn:aws:iot:eu-central-1:222222222222:cacert/"+id)["tags"] == nil {
		t.Error("no tags")
	}
}

// Everything that a stack of JITP and JITR is made of, with the AWS CLI.
func TestAWSCLIMakesTheStacks(t *testing.T) {
	s := start(t)
	c := newCLI(t, s, first)
	file := filepath.Join(t.TempDir(), "template.json")
	if err := os.WriteFile(file, []byte(minimalTemplate), 0o600); err != nil {
		t.Fatal(err)
	}
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	c.ok("iam", "create-role", "--role-name", "jitp", "--assume-role-policy-document", trust)
	c.ok("iam", "attach-role-policy", "--role-name", "jitp", "--policy-arn", managedRegistration)
	role := c.ok("iam", "get-role", "--role-name", "jitp")["Role"].(map[string]any)
	if role["Arn"] != "arn:aws:iam::111111111111:role/jitp" || role["AssumeRolePolicyDocument"] == nil {
		t.Errorf("role is %v", role)
	}
	c.ok("iot", "create-policy", "--policy-name", "fleet-device", "--policy-document", devicePolicy)
	c.ok("iot", "create-provisioning-template", "--template-name", "sensor", "--template-body", "file://"+file,
		"--provisioning-role-arn", role["Arn"].(string), "--type", "JITP", "--enabled")
	if d := c.ok("iot", "describe-provisioning-template", "--template-name", "sensor"); d["templateBody"] != minimalTemplate || d["defaultVersionId"] != 1.0 {
		t.Errorf("template is %v", d)
	}
	c.ok("iot", "create-topic-rule", "--rule-name", "jitr", "--topic-rule-payload", `{"sql":"SELECT * FROM '$aws/events/certificates/registered/+'","actions":[{"lambda":{"functionArn":"arn:aws:lambda:eu-central-1:111111111111:function:jitr"}}]}`)
	if r := c.ok("iot", "get-topic-rule", "--rule-name", "jitr"); r["ruleArn"] != "arn:aws:iot:eu-central-1:111111111111:rule/jitr" {
		t.Errorf("rule is %v", r)
	}
	c.ok("lambda", "add-permission", "--function-name", "jitr", "--statement-id", "rule", "--action", "lambda:InvokeFunction",
		"--principal", "iot.amazonaws.com", "--source-arn", "arn:aws:iot:eu-central-1:111111111111:rule/jitr", "--source-account", first)
	if p := c.ok("lambda", "get-policy", "--function-name", "jitr")["Policy"].(string); !strings.Contains(p, "AWS:SourceArn") {
		t.Errorf("function policy is %s", p)
	}
	c.ok("iot", "update-event-configurations", "--event-configurations", `{"CA_CERTIFICATE":{"Enabled":true}}`)
	if e := c.ok("iot", "describe-endpoint", "--endpoint-type", "iot:Data-ATS")["endpointAddress"].(string); !strings.HasSuffix(e, "-ats.iot.eu-central-1.amazonaws.com") {
		t.Errorf("endpoint is %s", e)
	}
	c.ok("iot", "create-thing", "--thing-name", "a:b_1", "--attribute-payload", "attributes={product=demo}")
	if _, message := c.run("iot", "create-thing", "--thing-name", "a:b_1"); !strings.Contains(message, "ResourceAlreadyExistsException") {
		t.Errorf("another configuration: %s", message)
	}
}

const devicePolicy = `{"Version":"2012-10-17","Statement":[
 {"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"},
 {"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":"arn:aws:iot:*:*:topic/dt/${iot:Connection.Thing.ThingName}/*"},
 {"Effect":"Allow","Action":"iot:Subscribe","Resource":"arn:aws:iot:*:*:topicfilter/dt/${iot:Connection.Thing.ThingName}/*"}]}`
