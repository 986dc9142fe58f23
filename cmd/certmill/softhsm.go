package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// softHSMModules are the places where distributions put the module.
var softHSMModules = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
}

// Where a SoftHSM token lives inside a plant's folder. Paths are relative, so that the folder may be moved.
const (
	softHSMConf   = "tokens/softhsm2.conf"
	softHSMObject = "tokens/softhsm"
	softHSMPIN    = "tokens/pin"
	softHSMLabel  = "certmill"
)

// makeSoftHSM makes a SoftHSM token with a random PIN in dir, or finds the one that an earlier call made.
// It returns what the configuration says of it.
func makeSoftHSM(ctx context.Context, dir string) (tokenChoice, error) {
	if err := needTokens(); err != nil {
		return tokenChoice{}, err
	}
	choice := tokenChoice{Token: softHSMLabel, PINFile: softHSMPIN, Env: map[string]string{"SOFTHSM2_CONF": softHSMConf}}
	for _, m := range softHSMModules {
		if exists(m) {
			choice.Module = m
			break
		}
	}
	if choice.Module == "" {
		return choice, fail(exitNoHSM, "apt-get install softhsm2, or name your own token with --module, --token and --pin-file", "SoftHSM is not installed")
	}
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nobjectstore.umask = 0077\nlog.level = ERROR\nslots.removable = false\n", softHSMObject)
	if err := os.MkdirAll(filepath.Join(dir, softHSMObject), modeOwnDir); err != nil {
		return choice, err
	}
	if err := writeFile(filepath.Join(dir, softHSMConf), []byte(conf), modePublic); err != nil {
		return choice, err
	}
	pinFile := filepath.Join(dir, softHSMPIN)
	if exists(pinFile) { // written last: the token is whole
		return choice, nil
	}
	return choice, initSoftHSM(ctx, dir, pinFile)
}

// initSoftHSM runs softhsm2-util, which asks for both PINs, each twice, at a terminal. It gets a pseudo-terminal: as arguments or in the
// environment the PINs could be read by every process of this user. The SO PIN is random and forgotten: nobody can reset the user PIN.
func initSoftHSM(ctx context.Context, dir, pinFile string) error {
	if err := os.RemoveAll(filepath.Join(dir, softHSMObject)); err != nil { // a try that did not get as far as its PIN file
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, softHSMObject), modeOwnDir); err != nil {
		return err
	}
	pin, soPIN := rand.Text(), rand.Text()
	cmd := exec.CommandContext(ctx, "softhsm2-util", "--init-token", "--free", "--label", softHSMLabel)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+softHSMConf)
	if err := runAtTerminal(cmd, soPIN, soPIN, pin, pin); err != nil {
		return fail(exitNoHSM, "try softhsm2-util by hand", "make a SoftHSM token: %w", err)
	}
	return writeFile(pinFile, []byte(pin), modeSecret)
}
