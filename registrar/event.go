package registrar

import (
	"context"

	"github.com/certmill/certmill/registrar/awsapi"
)

const eventsObject = "events of CA certificates"

// planEvents turns the events on where JITR is wanted: AWS's table says that they are needed, a measurement says that they are not (J-09).
func planEvents(p *planner, s seen[bool]) {
	switch {
	case s.unread != "":
		p.notMade(eventsObject, s.unread)
	case s.is == nil || !*s.is:
		p.act(Action{Verb: "turn on", Object: eventsObject, Why: "JITR listens to them (J-09)", optional: true}, enableEvents{})
	}
}

type enableEvents struct{}

func (enableEvents) done(ctx context.Context, t *awsapi.Target) (answer, error) {
	on, err := t.CAEvents(ctx)
	return whether(on), err
}

func (enableEvents) do(ctx context.Context, t *awsapi.Target, _ *tools) error {
	return t.EnableCAEvents(ctx)
}
