package registrar

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/certmill/certmill/registrar/awsapi"
)

// ErrBroken is returned by Apply for a plan that breaks rules: nothing was called.
var ErrBroken = errors.New("the plan breaks rules")

// Result is how an action ended.
type Result string

// Results.
const (
	Done      Result = "done"
	Already   Result = "there already" // somebody, or a run whose answer was lost, did it before
	NotMade   Result = "not made"      // the endpoint does not have the call, or its object is not there; the rest goes on
	Failed    Result = "failed"
	Uncertain Result = "unknown"   // interrupted under way: the next run looks
	NotTried  Result = "not tried" // something before it failed, or the run was interrupted
)

// Outcome is an action and how it ended.
type Outcome struct {
	Action
	Result Result `json:"result"`
	Reason string `json:"reason,omitempty"`
}

// Report is what Apply did, in the order of the plan.
type Report struct {
	Outcomes []Outcome `json:"outcomes"`
}

// Count says how many actions ended so.
func (r *Report) Count(results ...Result) int {
	n := 0
	for _, o := range r.Outcomes {
		if slices.Contains(results, o.Result) {
			n++
		}
	}
	return n
}

// Complete reports whether everything is done that can be.
func (r *Report) Complete() bool { return r.Count(Failed, Uncertain, NotTried) == 0 }

// application is one run of Apply.
type application struct {
	*Registrar
	journal *journal
	tools   tools

	mu       sync.Mutex         // guards outcomes
	outcomes map[string]Outcome // by key
}

// Apply does the actions of a plan that Plan or Recheck of this Registrar returned, account-wide ones first. A place that fails does not
// stop the others. Whatever happens, the report tells how far each action came; running Plan and Apply again finishes the rest.
// Errors: ErrBroken, ErrBusy, those of the journal's file, and that of ctx.
func (r *Registrar) Apply(ctx context.Context, plan *Plan) (report *Report, err error) {
	if len(plan.BrokenRules) > 0 {
		return nil, ErrBroken
	}
	id := plan.Hash
	if id == "" {
		if id, err = plan.hash(); err != nil {
			return nil, err
		}
	}
	j, err := openJournal(r.cfg.Journal, id, r.cfg.Now)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	a := &application{Registrar: r, journal: j, tools: tools{r.cfg.Prover}, outcomes: make(map[string]Outcome)}
	wide, local := group(plan.Actions)
	err = a.groups(ctx, wide)
	if err == nil {
		err = a.groups(ctx, a.unhindered(wide, local))
	}
	return a.report(plan), err
}

// group cuts a plan's actions into those of accounts and those of places; each group goes step by step.
func group(actions []Action) (wide, local [][]Action) {
	var last Place
	for _, act := range actions {
		into := &local
		if act.Region == "" {
			into = &wide
		}
		if len(*into) == 0 || last != act.Place {
			*into = append(*into, nil)
		}
		last = act.Place
		g := &(*into)[len(*into)-1]
		*g = append(*g, act)
	}
	return wide, local
}

func (a *application) groups(ctx context.Context, groups [][]Action) error {
	return a.parallel(ctx, len(groups), func(ctx context.Context, i int) { a.group(ctx, groups[i]) })
}

// unhindered leaves out the places of accounts whose account-wide actions failed: a CA whose role is missing would turn devices away.
func (a *application) unhindered(wide, local [][]Action) (free [][]Action) {
	for _, g := range local {
		hindered := slices.ContainsFunc(wide, func(w []Action) bool {
			return w[0].Account == g[0].Account && slices.ContainsFunc(w, func(act Action) bool { return a.outcomes[act.Key].Result == Failed })
		})
		if !hindered {
			free = append(free, g)
		}
	}
	return free
}

// group does the actions of one place until one fails.
func (a *application) group(ctx context.Context, actions []Action) {
	at, access := a.accessTo(actions[0].Place)
	t, err := a.enter(ctx, at, access)
	for _, act := range actions {
		o := Outcome{Action: act, Result: Failed}
		if err != nil {
			o.Reason = err.Error()
		} else {
			o = a.act(ctx, t, act)
		}
		if !a.settle(o) || ctx.Err() != nil {
			return
		}
	}
}

// accessTo finds the way to a place; for what is account-wide, that of the account's first region.
func (r *Registrar) accessTo(at Place) (Place, awsapi.Access) {
	i := slices.IndexFunc(r.cfg.Fleet.Registrations, func(w Registration) bool {
		return w.Account == at.Account && (at.Region == "" || w.Region == at.Region)
	})
	w := r.cfg.Fleet.Registrations[i]
	return w.Place, w.Access
}

// settle keeps an outcome and says whether the next action may follow.
func (a *application) settle(o Outcome) bool {
	if err := a.journal.write(journalLine{Key: o.Key, Event: string(o.Result), Error: o.Reason}); err != nil && o.Result != Failed {
		o.Result, o.Reason = Failed, err.Error()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.outcomes[o.Key] = o
	if a.cfg.Progress != nil {
		a.cfg.Progress(o)
	}
	return o.Result != Failed && o.Result != Uncertain
}

// report puts the outcomes into the order of the plan.
func (a *application) report(plan *Plan) *Report {
	report := &Report{Outcomes: []Outcome{}}
	for _, act := range plan.Actions {
		o, ok := a.outcomes[act.Key]
		if !ok {
			o = Outcome{Action: act, Result: NotTried, Reason: fmt.Sprintf("something before it in %s failed, or the run was interrupted", act.Place)}
		}
		report.Outcomes = append(report.Outcomes, o)
	}
	return report
}
