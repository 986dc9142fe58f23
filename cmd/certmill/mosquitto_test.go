package main

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMosquitto is a device that nobody of us wrote: openssl makes its key, mosquitto_pub connects to `certmill simulate aws`. The first
// connect is refused and provisions it, the second is let in. nss_wrapper stands in for DNS: mosquitto sends its host name as SNI.
func TestMosquitto(t *testing.T) {
	for _, tool := range []string{"mosquitto_pub", "openssl", "softhsm2-util"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: make test installs it", tool)
		}
	}
	wrapper, err := filepath.Glob("/usr/lib*/*/libnss_wrapper.so")
	if err != nil || len(wrapper) == 0 {
		t.Skip("libnss-wrapper is not installed: make test installs it")
	}
	dir := filepath.Join(t.TempDir(), "demo")
	stdout, talk, code := quickstartIn(t, dir, 0, "--devices", "4")
	if code != exitDone {
		t.Fatalf("exit %d\n%s", code, talk)
	}
	r := readReport(t, stdout)
	p := &testPlant{t: t, dir: dir}
	p.load()
	p.serve()
	work := t.TempDir()
	sh := func(line string, env ...string) (string, error) {
		c := exec.CommandContext(t.Context(), "sh", "-c", line)
		c.Dir, c.Env = work, append(os.Environ(), env...)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	if out, err := sh("openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -subj /CN=MOSQUITTO-1 -out csr.pem"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.run("issue", "--order", r.Order.ID, "--device", "MOSQUITTO-1", "--csr", filepath.Join(work, "csr.pem"), "--out", filepath.Join(work, "cert.pem"))
	if out, err := sh("cat cert.pem " + dir + "/ca/issuing.pem >chain.pem"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	sim := command(t, "simulate", "aws", "--dir", dir+"/aws")
	ready, err := sim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sim.Process.Kill(); sim.Wait() })
	var info simulatorInfo
	if err := json.NewDecoder(ready).Decode(&info); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(info.MQTT)
	if err != nil {
		t.Fatal(err)
	}
	endpoint := r.Devices[0].Endpoint
	if err := os.WriteFile(filepath.Join(work, "hosts"), []byte("127.0.0.1 "+endpoint+"\n"), modePublic); err != nil {
		t.Fatal(err)
	}
	publish := "mosquitto_pub -h " + endpoint + " -p " + port + " --cafile " + info.CAFile + " --cert chain.pem --key key.pem -i MOSQUITTO-1 -V mqttv311 -q 1 -t device/MOSQUITTO-1/hello -m hello -d"
	resolve := []string{"LD_PRELOAD=" + wrapper[0], "NSS_WRAPPER_HOSTS=" + filepath.Join(work, "hosts")}
	if out, err := sh(publish, resolve...); err == nil {
		t.Fatalf("the first connect was let in\n%s", out)
	}
	out, err := sh(publish, resolve...)
	if err != nil || !strings.Contains(out, "received CONNACK (0)") || !strings.Contains(out, "received PUBACK") {
		t.Fatalf("second connect: %v\n%s", err, out)
	}
}
