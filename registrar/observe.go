package registrar

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/certmill/certmill/registrar/awsapi"
)

// observe looks at everything that the fleet names and at nothing else. It changes nothing. What fails is part of the state.
func (r *Registrar) observe(ctx context.Context, all []wanted) (*state, error) {
	s := &state{accounts: make(map[string]map[string]seen[roleState]), places: make(map[Place]*placeState)}
	var mu sync.Mutex // guards s
	var places []wantedPlace
	for _, w := range all {
		places = append(places, w.places...)
	}
	err := r.parallel(ctx, len(places), func(ctx context.Context, i int) {
		is := r.observePlace(ctx, places[i])
		mu.Lock()
		defer mu.Unlock()
		s.places[places[i].Place] = is
	})
	if err != nil {
		return nil, err
	}
	err = r.parallel(ctx, len(all), func(ctx context.Context, i int) {
		first := slices.IndexFunc(all[i].places, func(w wantedPlace) bool { return s.places[w.Place].problem == "" })
		if first < 0 || len(all[i].roles) == 0 {
			return
		}
		roles := r.observeRoles(ctx, all[i].places[first], all[i].roles)
		mu.Lock()
		defer mu.Unlock()
		s.accounts[all[i].account] = roles
	})
	return s, err
}

// parallel runs work(0) … work(n-1), a few at a time, and waits for all. Its error is that of ctx.
func (r *Registrar) parallel(ctx context.Context, n int, work func(context.Context, int)) error {
	slots := make(chan struct{}, r.cfg.Parallel)
	var running sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		running.Go(func() {
			defer func() { <-slots }()
			work(ctx, i)
		})
	}
	running.Wait()
	return ctx.Err()
}

// enter connects to a place and makes sure that the credentials are those of its account: nothing is ever asked of, or done to, another
// account (S-07).
func (r *Registrar) enter(ctx context.Context, at Place, access awsapi.Access) (*awsapi.Target, error) {
	t, err := r.caller.Connect(ctx, access, at.Account, at.Region)
	if err != nil {
		return nil, err
	}
	who, err := t.Identity(ctx)
	if err != nil {
		return nil, err
	}
	if who.Account != at.Account {
		return nil, fmt.Errorf("the credentials are those of account %s (%s): nothing was touched (S-07)", who.Account, who.ARN)
	}
	return t, nil
}

func (r *Registrar) observePlace(ctx context.Context, w wantedPlace) *placeState {
	is := &placeState{
		templates: make(map[string]seen[templateState]), policies: make(map[string]seen[string]), rules: make(map[string]seen[awsapi.Rule]),
		permissions: make(map[string]seen[bool]), cas: make(map[string]seen[awsapi.CA]), tags: make(map[string]seen[map[string]string]),
	}
	t, err := r.enter(ctx, w.Place, w.access)
	if err != nil {
		is.problem = err.Error()
		return is
	}
	is.override = t.Override
	for _, look := range []func(context.Context, *awsapi.Target, wantedPlace) error{is.lookAtTemplates, is.lookAtPolicies, is.lookAtRules, is.lookAtCAs} {
		if err := look(ctx, t, w); err != nil {
			is.problem = err.Error()
			return is
		}
	}
	return is
}

func (is *placeState) lookAtTemplates(ctx context.Context, t *awsapi.Target, w wantedPlace) (err error) {
	for _, want := range w.templates {
		s, err := look(func() (templateState, error) {
			have, err := t.Template(ctx, want.Name)
			if err != nil || sameJSON(have.Body, want.Body) {
				return templateState{Template: have}, err
			}
			versions, err := t.TemplateVersions(ctx, want.Name)
			return templateState{have, versions}, err
		})
		if err != nil {
			return err
		}
		is.templates[want.Name] = s
	}
	return nil
}

func (is *placeState) lookAtPolicies(ctx context.Context, t *awsapi.Target, w wantedPlace) (err error) {
	for _, name := range w.policies {
		if is.policies[name], err = look(func() (string, error) { return t.DevicePolicy(ctx, name) }); err != nil {
			return err
		}
	}
	return nil
}

func (is *placeState) lookAtRules(ctx context.Context, t *awsapi.Target, w wantedPlace) (err error) {
	for _, want := range w.rules {
		if is.rules[want.name], err = look(func() (awsapi.Rule, error) { return t.Rule(ctx, want.name) }); err != nil {
			return err
		}
		is.permissions[want.name] = lookAtPermission(ctx, t, want)
	}
	if len(w.rules) > 0 {
		is.events = glance(func() (bool, error) { return t.CAEvents(ctx) })
	}
	return nil
}

// lookAtPermission tells a function without a policy from no function: AWS answers both alike.
func lookAtPermission(ctx context.Context, t *awsapi.Target, want wantedRule) seen[bool] {
	s := glance(func() (bool, error) {
		policy, err := t.FunctionPolicy(ctx, want.function)
		return want.permits(policy), err
	})
	if s.is != nil || s.unread != "" {
		return s
	}
	exists, err := t.FunctionExists(ctx, want.function)
	if err == nil && !exists {
		return seen[bool]{unread: "function " + want.function + " is not there yet; deploy it, then plan again"}
	}
	return s
}

func (is *placeState) lookAtCAs(ctx context.Context, t *awsapi.Target, w wantedPlace) (err error) {
	for _, want := range w.cas {
		ca, err := want.describe(ctx, t)
		switch {
		case err == nil:
			is.cas[want.CA] = there(ca)
		case awsapi.KindOf(err) != awsapi.NotFound:
			return err // without this nothing can be planned, whatever the reason
		}
		if err == nil && len(want.tags) > 0 && ca.ARN != "" {
			is.tags[want.CA] = glance(func() (map[string]string, error) { return t.Tags(ctx, ca.ARN) })
		}
	}
	return nil
}

func (r *Registrar) observeRoles(ctx context.Context, w wantedPlace, roles []wantedRole) map[string]seen[roleState] {
	out := make(map[string]seen[roleState])
	t, err := r.enter(ctx, w.Place, w.access)
	for _, want := range roles {
		out[want.arn] = glance(func() (roleState, error) {
			if err != nil {
				return roleState{}, err
			}
			return lookAtRole(ctx, t, want)
		})
	}
	return out
}

func lookAtRole(ctx context.Context, t *awsapi.Target, want wantedRole) (roleState, error) {
	role, err := t.Role(ctx, want.name)
	if err != nil || !want.create {
		return roleState{trust: role.Trust}, err
	}
	policy, err := t.RolePolicy(ctx, want.name, rolePolicyName)
	if err != nil && awsapi.KindOf(err) == awsapi.NotFound {
		err = nil
	}
	return roleState{role.Trust, policy}, err
}

// look reads what a plan cannot do without. An endpoint that does not have the call is the one reason to go on.
func look[T any](read func() (T, error)) (seen[T], error) {
	v, err := read()
	switch {
	case err == nil:
		return there(v), nil
	case awsapi.KindOf(err) == awsapi.NotFound:
		return seen[T]{}, nil
	case awsapi.KindOf(err) == awsapi.Unsupported:
		return seen[T]{unread: err.Error()}, nil
	}
	return seen[T]{}, err
}

// glance reads what a plan can do without: any failure is a check that was not made.
func glance[T any](read func() (T, error)) seen[T] {
	s, err := look(read)
	if err != nil {
		s.unread = err.Error()
	}
	return s
}
