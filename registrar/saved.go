package registrar

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ErrStale is returned for a saved plan that what stands at AWS, or in the fleet file, does not fit any more.
var ErrStale = errors.New("plan is stale")

// ErrNotAPlan is returned for a file that is no saved plan, or one that was changed.
var ErrNotAPlan = errors.New("not a saved plan")

// Save gives a plan the form in which it can be kept and applied later: JSON with a hash over itself. It is for people to read and
// machines to repeat; it holds no secret.
func (p *Plan) Save() ([]byte, error) {
	var err error
	if p.Hash, err = p.hash(); err != nil {
		return nil, err
	}
	return p.encode()
}

func (p *Plan) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(p)
	return b.Bytes(), err
}

// hash is taken over the plan without its hash.
func (p *Plan) hash() (string, error) {
	bare := *p
	bare.Hash = ""
	data, err := bare.encode()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// maxPlan bounds a saved plan, in bytes: 40 accounts in 12 regions make 5 MiB.
const maxPlan = 64 << 20

// ParsePlan reads a saved plan. Its actions cannot be applied as they are: Recheck them first. Errors: ErrNotAPlan.
func ParsePlan(data []byte) (*Plan, error) {
	if len(data) > maxPlan {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrNotAPlan, maxPlan)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	p := &Plan{}
	if err := d.Decode(p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotAPlan, err)
	}
	if p.Version != 1 {
		return nil, fmt.Errorf("%w: version %d is not known to this build", ErrNotAPlan, p.Version)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something stands behind it", ErrNotAPlan)
	}
	hash, err := p.hash() // over what it says, however it is laid out
	if err != nil {
		return nil, err
	}
	if hash != p.Hash {
		return nil, fmt.Errorf("%w: it was changed after it was saved", ErrNotAPlan)
	}
	return p, nil
}

// Recheck looks at AWS again and returns what is left of a saved plan, ready for Apply. What is missing now must be in the plan with the
// same content, and what is not missing any more must have been begun by this plan before; anything else is ErrStale, since it is
// not what somebody has consented to. A place that cannot be reached keeps its actions for another time: it stands in Unreachable.
func (r *Registrar) Recheck(ctx context.Context, saved *Plan) (*Plan, error) {
	if saved.FleetHash != r.cfg.Fleet.Hash {
		return nil, fmt.Errorf("%w: %s, or a file it names, has changed", ErrStale, r.cfg.Fleet.Path)
	}
	now, err := r.Plan(ctx)
	if err != nil {
		return nil, err
	}
	ours, err := attempted(r.cfg.Journal, saved.Hash)
	if err != nil {
		return nil, err
	}
	if err := now.fits(saved, ours); err != nil {
		return nil, err
	}
	rest := *saved
	rest.Actions, rest.BrokenRules, rest.Unreachable = now.Actions, now.BrokenRules, now.Unreachable
	return &rest, nil
}

// fits compares a plan made now with a saved one, of which ours were begun.
func (p *Plan) fits(saved *Plan, ours map[string]bool) error {
	for name, id := range p.CAs {
		if saved.CAs[name] != id {
			return fmt.Errorf("%w: CA %s has another certificate now", ErrStale, name)
		}
	}
	if len(p.BrokenRules) > 0 {
		return fmt.Errorf("%w: %s %s %s", ErrStale, p.BrokenRules[0].Place, p.BrokenRules[0].Object, p.BrokenRules[0].Reason)
	}
	if !slices.Equal(p.Overrides, saved.Overrides) && len(p.Unreachable) == 0 {
		return fmt.Errorf("%w: it was made for endpoint %v, now it is %v", ErrStale, saved.Overrides, p.Overrides)
	}
	for _, a := range p.Actions {
		if !slices.ContainsFunc(saved.Actions, func(s Action) bool { return s.Key == a.Key && s.Content == a.Content }) {
			return fmt.Errorf("%w: now it would also %s %s in %s", ErrStale, a.Verb, a.Object, a.Place)
		}
	}
	for _, s := range saved.Actions {
		missing := slices.ContainsFunc(p.Actions, func(a Action) bool { return a.Key == s.Key })
		unreached := slices.ContainsFunc(p.Unreachable, func(f Finding) bool { return f.Account == s.Account && (s.Region == "" || f.Region == s.Region) })
		if !missing && !unreached && !ours[s.Key] {
			return fmt.Errorf("%w: somebody else has done it: %s %s in %s", ErrStale, s.Verb, s.Object, s.Place)
		}
	}
	return nil
}
