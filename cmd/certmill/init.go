package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

//go:embed template
var templates embed.FS

// tokenChoice is what the configuration says of the token, as init writes it.
type tokenChoice struct {
	Module  string            `json:"module"`
	Token   string            `json:"token"`
	PINFile string            `json:"pin_file"`
	Env     map[string]string `json:"env,omitempty"`
}

// initOptions is what init and quickstart may set.
type initOptions struct {
	Dir                       string
	Node                      string
	Stations, Public, Metrics string // listen addresses
	Token                     tokenChoice
	SoftHSM                   bool   // make a token where none is named
	AWS                       string // endpoint that fleet.yaml names in place of AWS; "" AWS itself
}

func newInitCommand(e *env) *cobra.Command {
	o := initOptions{Node: "line-a", Stations: "127.0.0.1:8443", Public: "127.0.0.1:8080", Metrics: "127.0.0.1:9464"}
	var tokenEnv []string
	c := &cobra.Command{
		Use:   "init --dir D",
		Short: "A commented configuration, an empty ledger, profiles: the start of a real plant",
		Long: "Writes a folder to start from: certmill.yaml and a profile with comments, an example of fleet.yaml, and an empty ledger.\n" +
			"It makes no key: that is for ceremonies (certmill ceremony new). An interrupted init is finished by running it again.",
		Example: "  certmill init --dir plant --module /usr/lib/softhsm/libsofthsm2.so --token factory --pin-file /etc/certmill/pin\n" +
			"  certmill init --dir plant --softhsm      # makes a SoftHSM token too: to try things out",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Dir == "" {
				return fail(exitUsage, "certmill init --dir plant", "--dir is missing")
			}
			var err error
			if o.Token.Env, err = parseTokenEnv(tokenEnv); err != nil {
				return err
			}
			if err := initPlant(c.Context(), o); err != nil {
				return err
			}
			e.talk("initialised %s; next, in this order:", o.Dir)
			for _, role := range []string{"root", "issuing", "plant"} {
				e.talk("  certmill ceremony new %s -f %s/ca/%s.yaml -c %s/certmill.yaml && certmill ceremony run %s/ca/%s.yaml -c %s/certmill.yaml", role, o.Dir, role, o.Dir, o.Dir, role, o.Dir)
			}
			e.talk("  certmill serve -c %s/certmill.yaml", o.Dir)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "", "`folder` to make; it must be empty or missing")
	f.BoolVar(&o.SoftHSM, "softhsm", false, "make a SoftHSM token in the folder, to try things out")
	addTokenFlags(f, &o.Token, &tokenEnv)
	return c
}

// initPlant makes the folder of a plant. What an interrupted call left is completed: certmill.yaml is written last.
func initPlant(ctx context.Context, o initOptions) error {
	if exists(filepath.Join(o.Dir, "certmill.yaml")) {
		return fail(exitUsage, "choose another folder", "%s holds a certmill.yaml already", o.Dir)
	}
	if err := claimDir(o.Dir, initMarker); err != nil {
		return err
	}
	if err := fillPlant(ctx, o); err != nil {
		return err
	}
	return os.Remove(filepath.Join(o.Dir, initMarker))
}

// initMarker stands in a folder while init is at work there.
const initMarker = ".certmill-init"

// fillPlant writes what a plant's folder starts with. Each step finds what an earlier call did.
func fillPlant(ctx context.Context, o initOptions) error {
	if err := o.chooseToken(ctx); err != nil {
		return err
	}
	for _, d := range []string{"ledger", "state", "run", "profiles", "ca", "log", "tokens"} {
		if err := os.MkdirAll(filepath.Join(o.Dir, d), modeOwnDir); err != nil {
			return err
		}
	}
	if err := writeFile(filepath.Join(o.Dir, "profiles/device.yaml"), ca.DefaultProfile(ca.KindDevice), modePublic); err != nil {
		return err
	}
	for _, f := range []struct{ path, template string }{{"fleet.yaml", "fleet.yaml"}, {"jitp/sensor.json", "sensor.json"}} {
		if err := writeTemplate(filepath.Join(o.Dir, f.path), f.template, map[string]string{"Endpoint": o.AWS}); err != nil {
			return err
		}
	}
	err := ledger.Create(ledger.Config{Path: filepath.Join(o.Dir, "ledger/ledger.db")}, o.Node)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fail(exitStorage, "", "make the ledger: %w", err)
	}
	return writeTemplate(filepath.Join(o.Dir, "certmill.yaml"), "certmill.yaml", o.templateData())
}

// claimDir makes dir, or takes an empty one, or one that an interrupted call of the same kind left: then its marker stands in it.
func claimDir(dir, marker string) error {
	if err := os.MkdirAll(dir, modeOwnDir); err != nil {
		return fail(exitUsage, "choose another folder with --dir", "%w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fail(exitUsage, "choose another folder with --dir", "%w", err)
	}
	if len(entries) > 0 && !exists(filepath.Join(dir, marker)) {
		return fail(exitUsage, "choose an empty folder with --dir", "%s is not empty", dir)
	}
	return writeFile(filepath.Join(dir, marker), nil, modePublic)
}

// chooseToken decides what the configuration says of the token.
func (o *initOptions) chooseToken(ctx context.Context) (err error) {
	given, err := o.Token.given()
	switch {
	case err != nil:
		return err
	case o.SoftHSM && given:
		return fail(exitUsage, "", "--softhsm makes a token of its own: leave out --module, --token and --pin-file")
	case o.SoftHSM:
		o.Token, err = makeSoftHSM(ctx, o.Dir)
		return err
	case !given: // to be filled in by hand
		o.Token = tokenChoice{Module: "/usr/lib/softhsm/libsofthsm2.so", Token: "certmill", PINFile: "tokens/pin"}
		return nil
	}
	if o.Token.PINFile, err = filepath.Abs(o.Token.PINFile); err != nil {
		return err
	}
	return nil
}

// given reports whether the flags name a token.
func (t tokenChoice) given() (bool, error) {
	switch all := t.Module != "" && t.Token != "" && t.PINFile != ""; {
	case all:
		return true, nil
	case t.Module != "" || t.Token != "" || t.PINFile != "" || len(t.Env) > 0:
		return false, fail(exitUsage, "give all three for a token that is there, or none", "--module, --token and --pin-file go together")
	}
	return false, nil
}

func (o initOptions) templateData() any {
	var env []string
	for _, k := range slices.Sorted(maps.Keys(o.Token.Env)) {
		env = append(env, fmt.Sprintf("%s: %q", k, o.Token.Env[k]))
	}
	return map[string]string{
		"Node": o.Node, "Stations": o.Stations, "Public": o.Public, "Metrics": o.Metrics,
		"Module": o.Token.Module, "Token": o.Token.Token, "PINFile": o.Token.PINFile, "Env": strings.Join(env, ", "),
	}
}

// writeTemplate fills in one of the embedded templates.
func writeTemplate(path, name string, data any) error {
	t, err := template.ParseFS(templates, "template/"+name)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return err
	}
	return writeFile(path, b.Bytes(), modePublic)
}

// parseTokenEnv splits K=V pairs.
func parseTokenEnv(pairs []string) (map[string]string, error) {
	env := make(map[string]string, len(pairs))
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, fail(exitUsage, "--token-env NAME=VALUE", "%q is not NAME=VALUE", p)
		}
		env[k] = v
	}
	return env, nil
}
