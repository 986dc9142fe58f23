//go:build linux

package hsmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certmill/certmill/hsm"
)

// The kinds of token that Debian's packages hold. Each makes a token in a temporary folder; the test is skipped, with the reason, where something it needs
// is missing. What differs from SoftHSM is said beside each, because that is why it is here.

// NSS is Mozilla's softoken. C_Initialize wants arguments, the token's own name is fixed, and CKA_ID is what the module thinks it should be.
func NSS(t testing.TB) hsm.Config {
	t.Helper()
	module := needs(t, "libnss3", "/usr/lib/*/libsoftokn3.so", "/usr/lib64/libsoftokn3.so")
	dir := nssDatabase(t)
	cfg := config(t, module, "NSS Certificate DB", nssPIN)
	cfg.InitArgs = nssArguments(dir)
	return cfg
}

const nssPIN = "Test-Pin-1"

func nssArguments(dir string) string {
	return "configdir='sql:" + dir + "' certPrefix='' keyPrefix='' secmod='secmod.db' flags="
}

// nssDatabase makes an empty one with a password.
func nssDatabase(t testing.TB) string {
	t.Helper()
	certutil := needsCommand(t, "certutil", "libnss3-tools")
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	must(t, os.WriteFile(secret, []byte(nssPIN+"\n"), 0o600))
	run(t, nil, certutil, "-N", "-d", "sql:"+dir, "-f", secret)
	return dir
}

// P11Kit is SoftHSM behind p11-kit's proxy, as programs meet it that are configured for the whole system.
func P11Kit(t testing.TB) hsm.Config {
	t.Helper()
	cfg := SoftHSM(t)
	return behindP11Kit(t, cfg, "module: "+cfg.Module+"\n")
}

// NSSBehindP11Kit is NSS behind the proxy, which hands the module its arguments: so crypto11 can sign with it.
func NSSBehindP11Kit(t testing.TB) hsm.Config {
	t.Helper()
	cfg := NSS(t)
	arguments := cfg.InitArgs
	cfg.InitArgs = ""
	return behindP11Kit(t, cfg, "module: "+cfg.Module+"\nx-init-reserved: "+arguments+"\n")
}

// behindP11Kit has p11-kit find one module. For root it knows the system's configuration alone, which is another one in a mount namespace.
func behindP11Kit(t testing.TB, cfg hsm.Config, module string) hsm.Config {
	t.Helper()
	cfg.Module = needs(t, "p11-kit-modules", "/usr/lib/*/p11-kit-proxy.so", "/usr/lib64/p11-kit-proxy.so")
	home := t.TempDir()
	modules := filepath.Join(home, "pkcs11", "modules")
	must(t, os.MkdirAll(modules, 0o700))
	must(t, os.WriteFile(filepath.Join(home, "pkcs11", "pkcs11.conf"), []byte("user-config: only\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(modules, "token.module"), []byte(module), 0o600))
	if os.Geteuid() != 0 {
		cfg.Env = append(cfg.Env[:len(cfg.Env):len(cfg.Env)], "XDG_CONFIG_HOME="+home)
		return cfg
	}
	unshare := needsNamespace(t)
	exe, err := os.Executable()
	must(t, err)
	cfg.SignerCommand = []string{unshare, "-m", "sh", "-c", `mount --make-rprivate / && mount --bind "$0" /usr/share/p11-kit/modules && exec "$@"`, modules, exe, signer}
	return cfg
}

// needsNamespace is the command that gives a process mounts of its own.
func needsNamespace(t testing.TB) string {
	t.Helper()
	unshare := needsCommand(t, "unshare", "util-linux")
	if out, err := exec.CommandContext(t.Context(), unshare, "-m", "true").CombinedOutput(); err != nil {
		t.Skipf("this module lives at fixed paths, and here are no mount namespaces: %v: %s", err, out)
	}
	return unshare
}

// P11KitRemote is SoftHSM in another process, at the other end of a unix socket: one module for each connection, as with a token on the network.
func P11KitRemote(t testing.TB) hsm.Config {
	t.Helper()
	client := needs(t, "p11-kit-modules", "/usr/lib/*/pkcs11/p11-kit-client.so", "/usr/lib64/pkcs11/p11-kit-client.so")
	server := needsCommand(t, "p11-kit", "p11-kit")
	cfg := SoftHSM(t)
	socket := filepath.Join(cfg.Dir, "p11")
	daemon(t, cfg.Env, server, "server", "--foreground", "--provider", cfg.Module, "--name", socket, "pkcs11:")
	waitUntil(t, "p11-kit server listens", func() bool { return exists(socket) })
	cfg.Module = client
	cfg.Env = append(cfg.Env[:len(cfg.Env):len(cfg.Env)], "P11_KIT_SERVER_ADDRESS=unix:path="+socket)
	return cfg
}

// Spy is SoftHSM behind OpenSC's pkcs11-spy, which logs every call to a file of the test's.
func Spy(t testing.TB) hsm.Config {
	t.Helper()
	spy := needs(t, "opensc-pkcs11", "/usr/lib/*/pkcs11/pkcs11-spy.so", "/usr/lib64/pkcs11/pkcs11-spy.so")
	cfg := SoftHSM(t)
	cfg.Env = append(cfg.Env[:len(cfg.Env):len(cfg.Env)], "PKCS11SPY="+cfg.Module, "PKCS11SPY_OUTPUT="+filepath.Join(cfg.Dir, "spy.log"))
	cfg.Module = spy
	return cfg
}

// TPM2 is a TPM 2.0 in software behind its resource manager (the kernel's /dev/tpmrm0 does the same for a real one): no RSA above 3072 bits, a serial
// number that all its tokens share, and keys that say they may decrypt.
func TPM2(t testing.TB) hsm.Config {
	t.Helper()
	module := needs(t, "libtpm2-pkcs11-1", "/usr/lib/*/pkcs11/libtpm2_pkcs11.so", "/usr/lib64/pkcs11/libtpm2_pkcs11.so", "/usr/lib/*/libtpm2_pkcs11.so.1")
	needs(t, "libtss2-tcti-tabrmd0", "/usr/lib/*/libtss2-tcti-tabrmd.so.0", "/usr/lib64/libtss2-tcti-tabrmd.so.0")
	swtpm, broker := needsCommand(t, "swtpm", "swtpm"), needsCommand(t, "tpm2-abrmd", "tpm2-abrmd")
	bus, tool := needsCommand(t, "dbus-daemon", "dbus"), needsCommand(t, "pkcs11-tool", "opensc")
	dir := t.TempDir()
	tpm, address := filepath.Join(dir, "tpm"), "unix:path="+filepath.Join(dir, "bus")
	must(t, os.Mkdir(filepath.Join(dir, "state"), 0o700))
	must(t, os.Mkdir(filepath.Join(dir, "store"), 0o700))
	daemon(t, nil, swtpm, "socket", "--tpm2", "--tpmstate", "dir="+filepath.Join(dir, "state"), "--server", "type=unixio,path="+tpm,
		"--ctrl", "type=unixio,path="+tpm+".ctrl", "--flags", "not-need-init,startup-clear")
	daemon(t, nil, bus, "--session", "--nofork", "--nopidfile", "--address="+address)
	waitUntil(t, "TPM and bus listen", func() bool { return exists(tpm) && exists(filepath.Join(dir, "bus")) })
	env := []string{"DBUS_SESSION_BUS_ADDRESS=" + address, "TPM2_PKCS11_STORE=" + filepath.Join(dir, "store"), "TPM2_PKCS11_TCTI=tabrmd:bus_type=session",
		"TSS2_LOG=all+none", "TPM2_PKCS11_LOG_LEVEL=0"}
	daemon(t, env, broker, "--session", "--allow-root", "--tcti=swtpm:path="+tpm, "--max-connections=100")
	cfg := config(t, module, "test", "1234-user")
	cfg.Env = env
	initToken(t, cfg, tool, "1234-officer", "1234-user")
	return cfg
}

// OpenCryptoki is IBM's soft token: no elliptic curves, PINs of 8 characters, a daemon, and one serial number for all. It lives at fixed paths, so
// each of its processes is put into a mount namespace: as root only.
func OpenCryptoki(t testing.TB) hsm.Config {
	t.Helper()
	module := needs(t, "libopencryptoki0", "/usr/lib/*/libopencryptoki.so.0", "/usr/lib64/opencryptoki/libopencryptoki.so.0")
	needsCommand(t, "pkcsslotd", "opencryptoki")
	if os.Geteuid() != 0 {
		t.Skip("opencryptoki lives at fixed paths: only root can give it others")
	}
	unshare, enter, tool := needsNamespace(t), needsCommand(t, "nsenter", "util-linux"), needsCommand(t, "pkcs11-tool", "opensc")
	dir := t.TempDir()
	script := filepath.Join(dir, "start")
	must(t, os.WriteFile(script, []byte(ockScript), 0o700))
	started := daemon(t, nil, unshare, "-m", "-i", "sh", script, dir)
	inside := []string{enter, "-m", "-i", "-t", fmt.Sprint(started), "--"}
	exe, err := os.Executable()
	must(t, err)
	cfg := config(t, module, "test", "12345678")
	cfg.SignerCommand = append(inside[:len(inside):len(inside)], exe, signer)
	initToken(t, cfg, inside[0], "87654321", "12345678", append(inside[1:len(inside):len(inside)], tool)...)
	return cfg
}

// ockScript starts the slot daemon where all its paths are in one folder.
const ockScript = `set -e
mkdir -p "$1/lib" "$1/run/lock"
cp -a /var/lib/opencryptoki/. "$1/lib/"
printf 'version opencryptoki-3.1\nslot 0\n{\nstdll = libpkcs11_sw.so\n}\n' > "$1/conf"
mount --make-rprivate /
mount --bind "$1/lib" /var/lib/opencryptoki
mount --bind "$1/run" /run
mount --bind "$1/conf" /etc/opencryptoki/opencryptoki.conf
mount -t tmpfs tmpfs /dev/shm
mkdir -p /var/lock/opencryptoki/swtok
chgrp -R pkcs11 /var/lock/opencryptoki
chmod -R 770 /var/lock/opencryptoki
exec pkcsslotd -f
`

// initToken gives the first slot's token a label, an officer and a user. before stand in front of the tool's own arguments.
func initToken(t testing.TB, cfg hsm.Config, tool, officer, user string, before ...string) {
	t.Helper()
	args := append(before[:len(before):len(before)], "--module", cfg.Module)
	waitUntil(t, "the token can be initialised", func() bool {
		c := exec.CommandContext(t.Context(), tool, append(args[:len(args):len(args)], "--slot-index", "0", "--init-token", "--label", cfg.Token, "--so-pin", officer)...)
		c.Env = append(os.Environ(), cfg.Env...)
		return c.Run() == nil
	})
	run(t, cfg.Env, tool, append(args[:len(args):len(args)], "--token-label", cfg.Token, "--login", "--login-type", "so", "--so-pin", officer, "--init-pin", "--new-pin", user)...)
}

// config is what every kind has. The PIN of a test's token guards nothing.
func config(t testing.TB, module, token, pin string) hsm.Config {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "pin")
	must(t, os.WriteFile(file, []byte(pin), 0o600))
	return hsm.Config{Module: module, Token: token, PIN: hsm.PIN{File: file}, Dir: dir,
		Command: []string{"/proc/self/exe", keeper}, SignerCommand: []string{"/proc/self/exe", signer}}
}

// needs is the first file that matches one of the patterns.
func needs(t testing.TB, debian string, patterns ...string) string {
	t.Helper()
	for _, p := range patterns {
		if found, err := filepath.Glob(p); err == nil && len(found) > 0 {
			return found[0]
		}
	}
	t.Skip("not installed here: " + debian)
	return ""
}

func needsCommand(t testing.TB, name, debian string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	t.Skip("not installed here: " + debian)
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func run(t testing.TB, env []string, name string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Env = append(os.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// daemon starts a process that ends with the test, and prints what it said where the test failed.
func daemon(t testing.TB, env []string, name string, args ...string) (pid int) {
	t.Helper()
	said, err := os.CreateTemp(t.TempDir(), "said")
	must(t, err)
	c := exec.Command(name, args...)
	c.Env, c.Stdout, c.Stderr = append(os.Environ(), env...), said, said
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, c.Start())
	t.Cleanup(func() {
		c.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(time.Second, func() { c.Process.Kill() })
		defer timer.Stop()
		c.Wait() // it ends with the signal's error
		if text, err := os.ReadFile(said.Name()); t.Failed() && err == nil {
			t.Logf("%s said: %s", filepath.Base(name), text[max(len(text)-2000, 0):])
		}
		said.Close()
	})
	return c.Process.Pid
}

// waitUntil polls for what another process does.
func waitUntil(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 15*time.Second, errors.New("not within 15 s: "+what))
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
}
