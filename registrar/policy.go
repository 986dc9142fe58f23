package registrar

import (
	"context"
	"fmt"

	"github.com/certmill/certmill/registrar/awsapi"
)

// DevicePolicy is the name of the policy that certmill makes for devices where a template or an entry under jitr: names it.
// Policies of other names have to be there.
const DevicePolicy = "certmill-device"

// DeviceTopic gives a topic on which DevicePolicy lets a thing publish and subscribe: its own.
func DeviceTopic(thing, leaf string) string { return "device/" + thing + "/" + leaf }

// devicePolicyDocument lets a device connect as the thing that its certificate is attached to, and use that thing's own topics and shadow.
// It stands on thing variables (M-20), so one policy serves all devices and none of them chooses its rights.
func devicePolicyDocument(at Place) string {
	arn := func(what string) string { return at.arn(what) }
	const thing = "${iot:Connection.Thing.ThingName}"
	topics := func(kind string) []string {
		return []string{arn(kind + "/device/" + thing + "/*"), arn(kind + "/$aws/things/" + thing + "/*")}
	}
	return asJSON(policyDocument{Version: "2012-10-17", Statement: []statement{
		{Effect: "Allow", Action: "iot:Connect", Resource: arn("client/" + thing), Condition: map[string]map[string]any{"Bool": {"iot:Connection.Thing.IsAttached": "true"}}},
		{Effect: "Allow", Action: []string{"iot:Publish", "iot:Receive"}, Resource: topics("topic")},
		{Effect: "Allow", Action: "iot:Subscribe", Resource: topics("topicfilter")},
	}})
}

// planPolicy looks for a policy by its name.
func planPolicy(p *planner, name string, s seen[string]) {
	object := "policy " + name
	wanted := devicePolicyDocument(p.at)
	switch {
	case s.unread != "":
		p.notMade(object, s.unread)
	case s.is == nil && name == DevicePolicy:
		p.act(Action{Verb: "create", Object: object, Why: "it is not there", Content: wanted}, &makePolicy{name, wanted, p.tags})
	case s.is == nil:
		p.broken(object, "PT-28", "is not there, so provisioning would fail: make it, or name %s, which certmill makes", DevicePolicy)
	case name == DevicePolicy && !sameJSON(*s.is, wanted):
		p.note(object, fmt.Sprintf("differs from what certmill of this version makes; left as it is: %s", *s.is))
	}
}

type makePolicy struct {
	name, document string
	tags           map[string]string
}

func (s *makePolicy) done(ctx context.Context, t *awsapi.Target) (answer, error) {
	_, err := t.DevicePolicy(ctx, s.name)
	if err != nil {
		return absent(err)
	}
	return yes, nil
}

func (s *makePolicy) do(ctx context.Context, t *awsapi.Target, _ *tools) error {
	return t.CreateDevicePolicy(ctx, s.name, s.document, s.tags)
}
