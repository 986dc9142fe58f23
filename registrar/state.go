package registrar

import "github.com/certmill/certmill/registrar/awsapi"

// seen is what was observed of one thing: it is there (is), or it is not there (both zero), or nobody could look (unread says why).
type seen[T any] struct {
	is     *T
	unread string
}

// there makes a seen of something that is there.
func there[T any](v T) seen[T] { return seen[T]{is: &v} }

// state is what was observed of AWS.
type state struct {
	accounts map[string]map[string]seen[roleState] // account → ARN of the role
	places   map[Place]*placeState
}

type roleState struct {
	trust  string
	policy string // of certmill inside the role; "" none
}

type placeState struct {
	problem     string // why nothing else is known; "" none
	override    string // endpoint in use instead of AWS's own
	templates   map[string]seen[templateState]
	policies    map[string]seen[string] // documents
	rules       map[string]seen[awsapi.Rule]
	permissions map[string]seen[bool] // by rule: whether AWS IoT may call its function
	events      seen[bool]
	cas         map[string]seen[awsapi.CA] // by name at certmill
	tags        map[string]seen[map[string]string]
}

type templateState struct {
	awsapi.Template
	versions []awsapi.TemplateVersion // read only where the body differs
}
