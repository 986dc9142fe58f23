package registrar

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/certmill/certmill/registrar/awsapi"
)

// Values of a registered CA (CA-51, CA-76).
const (
	statusActive   = "ACTIVE"
	statusInactive = "INACTIVE"
	autoOn         = "ENABLE"
	autoOff        = "DISABLE"
)

// plan compares a registration with what is there. A new one comes in three steps, so that no device is let in before all is set.
func (w wantedCA) plan(p *planner, s seen[awsapi.CA]) {
	if s.is == nil {
		p.act(Action{Verb: "register", Object: w.object(), Why: w.registerWhy(), Content: w.content()}, &registerCA{w})
		s.is = &awsapi.CA{Status: statusInactive, Mode: w.Mode, AutoRegistration: autoOff, Config: w.config}
	}
	if s.is.Mode != "" && s.is.Mode != w.Mode {
		p.broken(w.object(), "CA-19", "is registered in mode %s, %s is wanted: AWS cannot change the mode; delete the registration there first", s.is.Mode, w.Mode)
		return
	}
	w.planConfig(p, s.is)
	w.planStates(p, s.is)
	w.planUnknown(p, s.is)
}

func (w wantedCA) registerWhy() string {
	if w.Mode == ModeDefault {
		return "DEFAULT, inactive; proved by a certificate over this account's registration code"
	}
	return "SNI_ONLY, inactive; AWS asks for no proof"
}

// planConfig compares what JITP is to do. To drop a registrationConfig is a call of its own, with auto-registration off (CA-62).
func (w wantedCA) planConfig(p *planner, is *awsapi.CA) {
	switch {
	case is.Config == w.config:
	case w.config == awsapi.RegistrationConfig{}:
		p.act(Action{Verb: "drop template", Object: w.object(), Why: "it has a template, and JITR wants none (CA-62)"},
			&updateCA{w, awsapi.CAUpdate{RemoveConfig: true, AutoRegistration: autoOff}})
		is.AutoRegistration = autoOff
	default:
		p.act(Action{Verb: "set template", Object: w.object(), Why: "it does not use " + w.config.TemplateName, Content: w.config.TemplateName},
			&updateCA{w, awsapi.CAUpdate{Config: w.config}})
	}
}

func (w wantedCA) planStates(p *planner, is *awsapi.CA) {
	status, auto := w.states()
	auto1 := Action{Verb: "auto-registration on", Object: w.object(), Why: "it is off"}
	if auto == autoOff {
		auto1.Verb, auto1.Why = "auto-registration off", "it is on"
	}
	autoStep := &updateCA{w, awsapi.CAUpdate{AutoRegistration: auto}}
	switchAuto := is.AutoRegistration != "" && is.AutoRegistration != auto
	if switchAuto && auto == autoOff { // before anything opens
		p.act(auto1, autoStep)
	}
	if is.Status != "" && is.Status != status {
		verb := "activate"
		if status == statusInactive {
			verb = "deactivate"
		}
		p.act(Action{Verb: verb, Object: w.object(), Why: "it is " + is.Status}, &updateCA{w, awsapi.CAUpdate{Status: status}})
	}
	if switchAuto && auto == autoOn {
		p.act(auto1, autoStep)
	}
}

func (w wantedCA) planUnknown(p *planner, is *awsapi.CA) {
	for _, field := range []struct{ name, value string }{{"status", is.Status}, {"mode", is.Mode}, {"auto-registration", is.AutoRegistration}} {
		if field.value == "" {
			p.unknown(w.object(), field.name+": the answer does not have it")
		}
	}
}

func (w wantedCA) planTags(p *planner, s seen[map[string]string]) {
	switch {
	case len(w.tags) == 0:
	case s.unread != "":
		p.notMade("tags of "+w.object(), s.unread)
	case s.is != nil && !contains(*s.is, w.tags):
		p.act(Action{Verb: "tag", Object: w.object(), Why: "tags are missing or differ", Content: asJSON(w.tags), optional: true}, &tagCA{w})
	}
}

func contains(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// states are the wanted ones in AWS's words.
func (w wantedCA) states() (status, auto string) {
	status, auto = statusInactive, autoOff
	if w.Active {
		status = statusActive
	}
	if w.AutoRegistration {
		auto = autoOn
	}
	return status, auto
}

// content is what a registration sends, but for the proof.
func (w wantedCA) content() string {
	return asJSON(struct {
		ID, Mode string
		Config   awsapi.RegistrationConfig
		Tags     map[string]string `json:",omitempty"`
	}{w.id(), w.Mode, w.config, w.tags})
}

// planCertificate finds what AWS would refuse about a CA's certificate, whatever the place.
func planCertificate(p *planner, w wantedCA, now time.Time) {
	c := w.cert
	if !c.IsCA {
		p.broken(w.object(), "CA-30", "its certificate is not one of a CA (basicConstraints)")
	}
	if !takesKey(c.PublicKey) {
		p.broken(w.object(), "CA-32", "AWS takes RSA keys of 2048 bits or more, and P-256, P-384, P-521")
	}
	if !slices.Contains(signatures(), c.SignatureAlgorithm) {
		p.broken(w.object(), "CA-34", "AWS does not take signatures by %s", c.SignatureAlgorithm)
	}
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		p.broken(w.object(), "CA-40", "is valid from %s to %s only", c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly))
	}
}

func takesKey(public any) bool {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048
	case *ecdsa.PublicKey:
		return k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521()
	}
	return false
}

func signatures() []x509.SignatureAlgorithm {
	return []x509.SignatureAlgorithm{
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
	}
}

// describe looks the CA up by its id. An emulator may count ids over the PEM text instead (moto does, unless told otherwise); the second
// look is never made at AWS itself.
func (w wantedCA) describe(ctx context.Context, t *awsapi.Target) (awsapi.CA, error) {
	ca, err := t.DescribeCA(ctx, w.id())
	if err != nil && awsapi.KindOf(err) == awsapi.NotFound && t.Override != "" {
		if other, err := t.DescribeCA(ctx, w.textID()); err == nil {
			return other, nil
		}
	}
	return ca, err
}

func (w wantedCA) textID() string {
	sum := sha256.Sum256([]byte(w.pem()))
	return hex.EncodeToString(sum[:])
}

type registerCA struct{ wantedCA }

// done is not a comparison of states: a registration that was made earlier may have come further since.
func (s *registerCA) done(ctx context.Context, t *awsapi.Target) (answer, error) {
	is, err := s.describe(ctx, t)
	if err != nil {
		return absent(err)
	}
	if is.Mode != "" && is.Mode != s.Mode {
		return no, fmt.Errorf("%s is registered in mode %s, %s is wanted (CA-19)", s.object(), is.Mode, s.Mode)
	}
	return yes, nil
}

func (s *registerCA) do(ctx context.Context, t *awsapi.Target, k *tools) error {
	r := awsapi.CARegistration{PEM: s.pem(), Mode: s.Mode, Config: s.config, Tags: s.tags}
	if s.Mode == ModeDefault { // with SNI_ONLY the field must be empty (CA-12)
		var err error
		if r.Proof, err = s.prove(ctx, t, k.prover); err != nil {
			return err
		}
	}
	id, err := t.RegisterCA(ctx, r)
	if err != nil {
		return err
	}
	if id != s.id() && (t.Override == "" || id != s.textID()) {
		return fmt.Errorf("AWS calls %s %s, computed was %s (CA-43)", s.object(), id, s.id())
	}
	return nil
}

// prove gets the code of this account and region (CA-03) and a certificate over it, and checks the certificate as AWS will (CA-05).
func (s *registerCA) prove(ctx context.Context, t *awsapi.Target, prover Prover) (string, error) {
	if prover == nil {
		return "", errors.New("nobody here can sign the proof that DEFAULT mode wants")
	}
	code, err := t.RegistrationCode(ctx)
	if err != nil {
		return "", err
	}
	proof, err := prover.Prove(ctx, s.CA, s.Account, s.Region, code)
	if err != nil {
		return "", fmt.Errorf("proof for %s: %w", s.Place, err)
	}
	block, rest := pem.Decode(proof)
	if block == nil || len(rest) > 0 {
		return "", fmt.Errorf("proof for %s is not exactly one PEM block (CA-42)", s.Place)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("proof for %s: %w", s.Place, err)
	}
	if cert.Subject.CommonName != code {
		return "", fmt.Errorf("proof for %s is over another registration code (CA-05)", s.Place)
	}
	if err := cert.CheckSignatureFrom(s.cert); err != nil {
		return "", fmt.Errorf("proof for %s is not signed by CA %s (CA-05): %w", s.Place, s.CA, err)
	}
	return string(proof), nil
}

type updateCA struct {
	wantedCA
	update awsapi.CAUpdate
}

func (s *updateCA) done(ctx context.Context, t *awsapi.Target) (answer, error) {
	is, err := s.describe(ctx, t)
	if err != nil {
		return no, err
	}
	verdict := yes
	for _, f := range []struct{ want, is string }{{s.update.Status, is.Status}, {s.update.AutoRegistration, is.AutoRegistration}} {
		switch {
		case f.want == "" || f.want == f.is:
		case f.is == "":
			verdict = cannotTell
		default:
			return no, nil
		}
	}
	empty := awsapi.RegistrationConfig{}
	if s.update.RemoveConfig && is.Config != empty || s.update.Config != empty && is.Config != s.update.Config {
		return no, nil
	}
	return verdict, nil
}

func (s *updateCA) do(ctx context.Context, t *awsapi.Target, _ *tools) error {
	is, err := s.describe(ctx, t)
	if err != nil {
		return err
	}
	return t.UpdateCA(ctx, is.ID, s.update)
}

type tagCA struct{ wantedCA }

func (s *tagCA) done(ctx context.Context, t *awsapi.Target) (answer, error) {
	is, err := s.describe(ctx, t)
	if err != nil {
		return no, err
	}
	tags, err := t.Tags(ctx, is.ARN)
	return whether(contains(tags, s.tags)), err
}

func (s *tagCA) do(ctx context.Context, t *awsapi.Target, _ *tools) error {
	is, err := s.describe(ctx, t)
	if err != nil {
		return err
	}
	return t.Tag(ctx, is.ARN, s.tags)
}
