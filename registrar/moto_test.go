package registrar

import (
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
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

// moto shows that the calls have AWS's shapes, and how the registrar lives with an endpoint that lacks half of them (rules section 12).
// What the AWS CLI then sees is looked at in cmd/certmill, after the commands were typed.
func TestMoto(t *testing.T) {
	t.Parallel() // its servers take seconds to start
	for _, c := range []struct {
		name   string
		derIDs bool // rule CA-43
	}{{"ids over DER", true}, {"ids over PEM text", false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
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
