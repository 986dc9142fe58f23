package registrar

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/registrar/awsapi"
)

// moto 5.2.1 does not take iot.use_valid_cert through its config API, so this starts it as its own command does, with the setting in place.
const motoWithDERIds = `
import sys
from moto.core.config import default_user_config
default_user_config["iot"] = {"use_valid_cert": True}
from moto.server import main
main(sys.argv[1:])
`

// startMoto starts moto_server, skipping the test where it is not installed, and returns its URL.
func startMoto(t *testing.T, derIDs bool) string {
	t.Helper()
	path, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("moto_server is not installed: pip install 'moto[server]'")
	}
	port := freePort(t)
	cmd := exec.Command(path, "-H", "127.0.0.1", "-p", port)
	if derIDs {
		if out, err := exec.Command("python3", "-c", "import moto").CombinedOutput(); err != nil {
			t.Skipf("python3 does not find the moto of moto_server: %s", out)
		}
		cmd = exec.Command("python3", "-c", motoWithDERIds, "-H", "127.0.0.1", "-p", port)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("moto_server ended by itself")
		}
	})
	url := "http://127.0.0.1:" + port
	awaitHTTP(t, url+"/moto-api/")
	return url
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func awaitHTTP(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		res, err := http.Get(url)
		if err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("moto_server did not come up: %v", err)
		}
	}
}

// awsCLI runs the AWS CLI against an endpoint.
func awsCLI(t *testing.T, endpoint string, keys []string, args ...string) (map[string]any, error) {
	t.Helper()
	cmd := exec.Command("aws", args...)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "AWS_ENDPOINT_URL=" + endpoint, "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true",
	}, keys...)
	for _, v := range []string{"PYENV_VERSION", "PYENV_ROOT"} {
		if s := os.Getenv(v); s != "" {
			cmd.Env = append(cmd.Env, v+"="+s)
		}
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("aws %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	var v map[string]any
	if err := json.Unmarshal(out, &v); err != nil {
		return nil, errors.Join(err, errors.New(string(out)))
	}
	return v, nil
}

// describeByCLI assumes the registrar's role in the account and describes the CA, as a person would.
func describeByCLI(t *testing.T, endpoint string, at Place, ca string) map[string]any {
	t.Helper()
	home := []string{"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_DEFAULT_REGION=" + at.Region}
	v, err := awsCLI(t, endpoint, home, "sts", "assume-role", "--role-arn", "arn:aws:iam::"+at.Account+":role/certmill-registrar", "--role-session-name", "check")
	if err != nil {
		t.Fatal(err)
	}
	c := v["Credentials"].(map[string]any)
	session := []string{
		"AWS_DEFAULT_REGION=" + at.Region, "AWS_ACCESS_KEY_ID=" + c["AccessKeyId"].(string), "AWS_SECRET_ACCESS_KEY=" + c["SecretAccessKey"].(string),
		"AWS_SESSION_TOKEN=" + c["SessionToken"].(string),
	}
	v, err = awsCLI(t, endpoint, session, "iot", "describe-ca-certificate", "--certificate-id", ca)
	if err != nil {
		t.Fatal(err)
	}
	return v["certificateDescription"].(map[string]any)
}

// moto shows that the calls have AWS's shapes, and how the registrar lives with an endpoint that lacks half of them (rules section 12).
func TestMoto(t *testing.T) {
	for _, c := range []struct {
		name   string
		derIDs bool // rule CA-43
	}{{"ids over DER", true}, {"ids over PEM text", false}} {
		t.Run(c.name, func(t *testing.T) {
			endpoint := startMoto(t, c.derIDs)
			ca := newTestCA(t)
			r := newTestRegistrar(t, writeFleet(t, endpoint), ca, func(cfg *Config) { cfg.Keys = &awsapi.Keys{ID: "test", Secret: "test"} })
			mustApply(t, r)
			again := mustPlan(t, r)
			if again.Differs() || len(again.Unreachable) > 0 {
				t.Errorf("second plan:\n%s", planText(t, again))
			}
			checkNotMade(t, again)
			rows, err := r.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range rows {
				if row.Status != statusActive || row.Mode != fieldUnknown || row.AutoRegistration != fieldUnknown {
					t.Errorf("status: %s", asJSON(row))
				}
			}
			if _, err := exec.LookPath("aws"); err != nil {
				t.Skip("the AWS CLI is not installed: pip install awscli")
			}
			for _, row := range rows {
				if d := describeByCLI(t, endpoint, row.Place, row.CACertificateID); d["status"] != statusActive {
					t.Errorf("%s: %v", row.Place, d)
				}
			}
		})
	}
}

// checkNotMade wants a reason for each thing that moto lacks.
func checkNotMade(t *testing.T, p *Plan) {
	t.Helper()
	want := map[string]string{
		"template certmill-sensor":          "DescribeProvisioningTemplate: the endpoint does not have this call",
		"permission for rule certmill_jitr": "function arn:aws:lambda:us-west-2:222222222222:function:certmill-jitr is not there yet; deploy it, then plan again",
		"events of CA certificates":         "DescribeEventConfigurations: the endpoint does not have this call",
		"tags of CA issuing":                "ListTagsForResource: the endpoint does not have this call",
	}
	said := make(map[string]bool)
	for _, f := range p.NotMade {
		if want[f.Object] != f.Reason {
			t.Errorf("not made: %s: %s", f.Object, f.Reason)
		}
		said[f.Object] = true
	}
	for object := range want {
		if !said[object] {
			t.Errorf("plan does not say that %s is not made:\n%s", object, planText(t, p))
		}
	}
}
