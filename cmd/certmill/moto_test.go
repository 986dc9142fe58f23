package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMoto runs plan and apply, unchanged, against moto, a simulator of somebody else, and asks it with the AWS CLI. What moto does not have
// shows as "not made" and is no difference.
func TestMoto(t *testing.T) {
	for _, tool := range []string{"moto_server", "aws", "softhsm2-util", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed here: what moto proves is wire shapes and happy paths; awsim proves the rest", tool)
		}
	}
	endpoint := startMoto(t)
	p := newTestPlant(t)
	p.serve()
	fleet := filepath.Join(p.dir, "fleet.yaml")
	if err := writeTemplate(fleet, "fleet.yaml", map[string]string{"Endpoint": endpoint}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "external-id"), []byte("moto\n"), modeSecret); err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(p.dir, "plan.json")
	code, stdout, talk := p.try("aws", "plan", "--detailed-exitcode", "--out", saved)
	if code != exitDifferences || !strings.Contains(stdout, "not made") {
		t.Fatalf("first plan: exit %d, want %d\n%s%s", code, exitDifferences, stdout, talk)
	}
	if code, stdout, talk := p.try("aws", "apply", saved); code != exitDone {
		t.Fatalf("apply: exit %d\n%s%s", code, stdout, talk)
	}
	if code, stdout, talk := p.try("aws", "plan", "--detailed-exitcode"); code != exitDone {
		t.Fatalf("second plan: exit %d\n%s%s", code, stdout, talk)
	}
	for _, at := range []place{europe, east, eastToo, westJITR} {
		if got := motoStatus(t, p, endpoint, at); got != "ACTIVE" {
			t.Errorf("%s/%s: CA is %q", at.account, at.region, got)
		}
	}
}

// motoWithDERIds starts moto_server with iot.use_valid_cert: moto 5.2.1 does not take it through its config API.
const motoWithDERIds = `
import sys
from moto.core.config import default_user_config
default_user_config["iot"] = {"use_valid_cert": True}
from moto.server import main
main(sys.argv[1:])
`

// startMoto starts a server of our own and returns its URL.
func startMoto(t *testing.T) string {
	t.Helper()
	address := freePort(t)
	host, port, _ := strings.Cut(address, ":")
	c := exec.Command("python3", "-c", motoWithDERIds, "-H", host, "-p", port)
	log := &lockedBuffer{}
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	url := "http://" + address
	waitFor(t, 60*time.Second, func() error {
		res, err := http.Get(url + "/moto-api/")
		if err != nil {
			return err
		}
		return res.Body.Close()
	}, log)
	return url
}

// motoStatus asks with the AWS CLI, after sts assume-role into the account.
func motoStatus(t *testing.T, p *testPlant, endpoint string, at place) string {
	t.Helper()
	id := strings.TrimSpace(p.run("ca", "list", "-o", "jsonl"))
	var ca string
	for line := range strings.Lines(id) {
		if strings.Contains(line, `"name":"issuing"`) {
			_, ca, _ = strings.Cut(line, `"certificate_id":"`)
			ca, _, _ = strings.Cut(ca, `"`)
		}
	}
	script := `set -e
creds=$(aws --endpoint-url $E --region $R sts assume-role --role-arn arn:aws:iam::$A:role/certmill-registrar --role-session-name test --query Credentials)
export AWS_ACCESS_KEY_ID=$(echo "$creds" | jq -r .AccessKeyId) AWS_SECRET_ACCESS_KEY=$(echo "$creds" | jq -r .SecretAccessKey) AWS_SESSION_TOKEN=$(echo "$creds" | jq -r .SessionToken)
aws --endpoint-url $E --region $R iot describe-ca-certificate --certificate-id $ID --query certificateDescription.status --output text`
	c := exec.CommandContext(t.Context(), "sh", "-c", script)
	c.Env = append(os.Environ(), "E="+endpoint, "R="+at.region, "A="+at.account, "ID="+ca, "AWS_ACCESS_KEY_ID=testing", "AWS_SECRET_ACCESS_KEY=testing", "AWS_EC2_METADATA_DISABLED=true")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}
