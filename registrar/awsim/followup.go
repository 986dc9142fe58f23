package awsim

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/certmill/certmill/registrar/jitr"
)

// followUp is what AWS does about a pending certificate after its connection was closed: run the template of its CA (JITP),
// or publish the event that customers' rules wait for (JITR). It comes again with each connect (M-05).
func (b *broker) followUp(d *deviceConn, certID string) {
	var cert *certificate
	var ca *caCertificate
	err := b.sim.store.view(func(tx *tx) (err error) {
		if cert, err = certificates.get(tx, b.at.key(certID)); err != nil || cert == nil {
			return err
		}
		ca, err = caCertificates.get(tx, b.at.key(cert.CA))
		return err
	})
	log := b.sim.log.With("account", b.at.account, "region", b.at.region, "certificate_id", certID)
	if err != nil || ca == nil { // without its CA, nobody provisions
		log.Warn("awsim: certificate stays pending", "err", err)
		return
	}
	if ca.Config != nil { // rule CA-52
		err := b.sim.provision(b.at, certID, ca.Config)
		log.Info("awsim: ProvisionDevice", "template", ca.Config.TemplateName, "err", err)
		if b.sim.cfg.NoEventWithProvisioning { // rule P-03
			return
		}
	}
	b.registered(d.clientID, cert)
}

// registeredEvent is the payload of rules section 4.5. The registration time is a text, the other a number (J-04, J-07).
type registeredEvent struct {
	CertificateID   string `json:"certificateId"`
	CACertificateID string `json:"caCertificateId"`
	Timestamp       int64  `json:"timestamp"`
	Status          string `json:"certificateStatus"`
	Account         string `json:"awsAccountId"`
	Registered      string `json:"certificateRegistrationTimestamp"`
	ClientID        string `json:"clientid,omitempty"` // what the SQL of rule R-01 adds
}

// registered publishes the event, with all event configurations off too (J-09), and runs the rules on it.
func (b *broker) registered(clientID string, cert *certificate) {
	e := registeredEvent{
		CertificateID: cert.ID, CACertificateID: cert.CA, Timestamp: b.sim.clock.now().UnixMilli(), Status: statusPending,
		Account: b.at.account, Registered: strconv.FormatInt(cert.Created.UnixMilli(), 10),
	}
	topic := "$aws/events/certificates/registered/" + cert.CA // rule J-01
	payload, err := json.Marshal(e)
	if err != nil {
		b.sim.log.Error("awsim: event", "err", err)
		return
	}
	b.tell(message{topic, payload})
	e.ClientID = clientID
	if payload, err = json.Marshal(e); err == nil {
		err = b.runRules(topic, payload)
	}
	if err != nil {
		b.sim.log.Warn("awsim: rule", "err", err)
	}
}

// pendingOnly is the WHERE that awsim understands.
var pendingOnly = regexp.MustCompile(`(?i)^certificateStatus\s*=\s*'PENDING_ACTIVATION'$`)

func (b *broker) runRules(topic string, payload []byte) error {
	var all []*rule
	err := b.sim.store.view(func(tx *tx) (err error) {
		all, err = rules.all(tx, b.at.key(""))
		return err
	})
	if err != nil {
		return err
	}
	for _, r := range all {
		filter, where, _ := r.Payload.from()
		if r.Payload.Disabled || !topicMatches(filter, topic) {
			continue
		}
		if where != "" && !pendingOnly.MatchString(where) {
			b.sim.log.Warn("awsim: rule not run: its WHERE is not understood", "rule", r.Name, "where", where)
			continue
		}
		for _, action := range r.Payload.Actions {
			if err := b.act(r, action, payload); err != nil {
				b.sim.log.Warn("awsim: rule's action failed", "rule", r.Name, "err", err) // and nobody hears of it
			}
		}
	}
	return nil
}

// act runs one action of a rule.
func (b *broker) act(r *rule, action object, payload []byte) error {
	lambda, ok := action["lambda"].(map[string]any)
	if !ok {
		return fmt.Errorf("only lambda actions are simulated")
	}
	arn, _ := lambda["functionArn"].(string)
	name, ok := strings.CutPrefix(arn, b.at.functionARN(""))
	if !ok { // rule R-02
		return fmt.Errorf("%s is not a function of this account and region", arn)
	}
	name = functionName(name)
	var f *function
	var invokable bool
	err := b.sim.store.view(func(tx *tx) (err error) {
		if f, err = functionNamed(tx, b.at, name); err != nil {
			return err
		}
		invokable, err = f.invokable(b.at, r.Name)
		return err
	})
	if err != nil {
		return err
	}
	if !invokable {
		return fmt.Errorf("function %s does not let AWS IoT invoke it for this rule (R-03)", name)
	}
	return b.sim.invoke(b.at, f, payload)
}

// Defaults of a function whose environment nobody has set.
const (
	defaultTable  = "certmill-allow-list"
	defaultPolicy = "certmill-device"
)

// invoke runs certmill's handler in the function's place.
func (s *Sim) invoke(at place, f *function, payload []byte) error {
	h := &jitr.Handler{
		IoT: lambdaIoT{s.store, at}, AllowList: lambdaList{s.store, at, setting(f, "TABLE", defaultTable)},
		Policy: setting(f, "POLICY", defaultPolicy), Now: s.clock.now, Log: s.log.With("function", f.Name),
	}
	if text := f.Environment["GRACE"]; text != "" {
		grace, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("function %s: GRACE: %w", f.Name, err)
		}
		h.Grace = grace
	}
	if text := f.Environment["CAS"]; text != "" {
		h.CAs = strings.Split(text, ",")
	}
	e, err := jitr.ParseEvent(payload)
	if err != nil {
		return err
	}
	outcome, err := h.Handle(s.ctx, e)
	s.log.Info("awsim: function ran", "function", f.Name, "outcome", string(outcome), "err", err)
	return err
}

func setting(f *function, name, otherwise string) string {
	if v := f.Environment[name]; v != "" {
		return v
	}
	return otherwise
}
