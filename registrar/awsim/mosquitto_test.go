package awsim

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// mosquitto_pub, a client that nobody here wrote, is provisioned on its first connect and publishes on the second. Its SNI is
// the host name it is given, which nss_wrapper resolves to this machine.
func TestMosquitto(t *testing.T) {
	if _, err := exec.LookPath("mosquitto_pub"); err != nil {
		t.Skip("mosquitto_pub is not installed")
	}
	wrapper, _ := filepath.Glob("/usr/lib/*/libnss_wrapper.so*")
	if len(wrapper) == 0 {
		t.Skip("libnss-wrapper is not installed")
	}
	s := start(t, func(c *Config) { c.EndpointSuffix = "localhost" })
	a, ca := s.as(t, first), newAuthority(t, "Issuing")
	a.register(ca, modeSNIOnly, a.jitpStack())
	unit := ca.issue(t, "unit-1")
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	endpoint := a.endpoint()
	args := append(hostPort(t, s.MQTTAddr(), endpoint), "--cafile", s.CAFile(), "--cert", write("chain.pem", unit.pem+ca.pem),
		"--key", write("key.pem", keyPEM(t, unit)), "-i", "unit-1", "-V", "mqttv311", "-q", "1", "-t", "dt/unit-1/up", "-m", "hello",
		"--tls-alpn", "x-amzn-mqtt-ca")
	hosts := write("hosts", "127.0.0.1 "+endpoint+"\n")
	publish := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), "mosquitto_pub", args...)
		cmd.Env = append(os.Environ(), "LD_PRELOAD="+wrapper[0], "NSS_WRAPPER_HOSTS="+hosts)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := publish(); err == nil {
		t.Errorf("the first connect went through: %s", out)
	}
	a.wantStatus(unit, statusActive)
	if out, err := publish(); err != nil {
		t.Errorf("the second connect: %v: %s", err, out)
	}
}

func keyPEM(t *testing.T, a *authority) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// hostPort gives mosquitto's options for a name and the port of an address.
func hostPort(t *testing.T, address, name string) []string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-h", name, "-p", port}
}
