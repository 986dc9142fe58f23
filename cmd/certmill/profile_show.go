package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/ca"
)

func newProfileShowCommand(e *env) *cobra.Command {
	var asPEM bool
	c := &cobra.Command{
		Use:   "show NAME|FILE",
		Short: "A sample of the certificates that a profile makes",
		Long: "Makes a certificate as the profile describes it, with a throw-away key, under a CA that does not exist and with a signature that verifies for\n" +
			"nobody, and prints what it says. Device id and attributes are the shortest that the profile's patterns take; URLs stand as they would with\n" +
			"public_url: http://pki.example.com. A NAME is one of the configuration's profiles; what is a file is read as one.",
		Example: "  certmill profile show profiles/device.yaml\n  certmill profile show device --pem | openssl x509 -noout -text",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, file, err := e.profile(args[0])
			if err != nil {
				return err
			}
			s, err := newSample(p, file)
			if err != nil {
				return err
			}
			if asPEM {
				_, err := fmt.Fprint(e.stdout, s.PEM)
				return err
			}
			return e.printOne(s, s.text())
		},
	}
	c.Flags().BoolVar(&asPEM, "pem", false, "print the certificate itself")
	return c
}

// profile finds a profile by its file, or by its name in the configuration.
func (e *env) profile(what string) (p *ca.Profile, file string, err error) {
	data, err := os.ReadFile(what)
	switch {
	case err == nil:
		p, err := ca.ParseProfile(data)
		if err != nil {
			return nil, "", fail(exitConfig, "", "%s: %w", what, err)
		}
		return p, what, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, "", fail(exitUsage, "check the path", "%w", err)
	}
	cfg, err := e.loadConfig()
	if err != nil {
		return nil, "", err
	}
	profiles, err := loadProfiles(cfg)
	if err != nil {
		return nil, "", err
	}
	for i, p := range profiles {
		if p.Name() == what {
			return p, cfg.Profiles[i], nil
		}
	}
	return nil, "", fail(exitUsage, "certmill profile list shows the profiles", "%q is neither a file nor a profile of the configuration", what)
}

// sample is a certificate of a profile, taken apart.
type sample struct {
	Profile    profileRow      `json:"profile"`
	Attributes []string        `json:"attributes,omitempty"` // what a device list must say of every device
	Key        string          `json:"key"`
	Says       *ca.Description `json:"certificate"`
	PEM        string          `json:"pem"`
}

func newSample(p *ca.Profile, file string) (*sample, error) {
	der, err := p.Sample()
	if err != nil {
		return nil, fmt.Errorf("sample certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("sample certificate: %w", err)
	}
	says, err := ca.Describe(der)
	return &sample{rowOf(p, file), p.Attributes(), keyText(c.PublicKey), says, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}, err
}

// text is the sample for people, in the manner of openssl x509 -text.
func (s *sample) text() string {
	var b strings.Builder
	line := func(indent int, name, value string) {
		fmt.Fprintf(&b, "%*s%s\n", indent, "", strings.TrimRight(name+" "+value, " "))
	}
	line(0, "Sample certificate of profile", s.Profile.Name+" ("+s.Profile.Kind+"), hash "+s.Profile.Hash)
	if len(s.Attributes) > 0 {
		line(4, "Attributes wanted of every device:", strings.Join(s.Attributes, ", "))
	}
	line(4, "Subject:", s.Says.Subject)
	line(4, "Not before:", s.Says.NotBefore.Format(time.RFC3339))
	line(4, "Not after:", s.Says.NotAfter.Format(time.RFC3339))
	line(4, "Key:", s.Key)
	for _, e := range s.Says.Extensions {
		name, critical := e.Name, ""
		if name == "" {
			name = e.OID
		}
		if e.Critical {
			critical = "critical"
		}
		line(4, name+":", critical)
		for _, v := range e.Values {
			line(8, v, "")
		}
	}
	return b.String()
}
