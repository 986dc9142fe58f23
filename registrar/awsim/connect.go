package awsim

import (
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// verdict is what becomes of a CONNECT: accepted when why is empty, else closed.
type verdict struct {
	why      string         // for the log: the device learns nothing
	cert     *certificate   // the registered certificate
	signer   *caCertificate // of an unknown certificate that is to be registered
	denied   bool           // by policy
	followUp bool           // the certificate is pending: event and template
}

// connect decides about a CONNECT and does what follows; true lets the device in.
func (b *broker) connect(d *deviceConn) bool {
	var v verdict
	err := b.sim.store.view(func(tx *tx) (err error) {
		v, err = d.decide(tx)
		return err
	})
	if err == nil && v.signer != nil {
		v, err = b.sim.firstConnect(d, v.signer)
	}
	if err != nil {
		v = verdict{why: err.Error()}
	}
	log := b.sim.log.With("account", b.at.account, "region", b.at.region, "client_id", d.clientID, "certificate_id", certificateID(d.chain[0]))
	if v.why == "" {
		log.Info("awsim: connected")
		d.cert = v.cert
		return true
	}
	log.Info("awsim: connection closed", "why", v.why)
	if v.denied {
		b.presence(d, "connect_failed", object{"connectFailureReason": "AUTHORIZATION_FAILED"})
	}
	if v.followUp {
		b.sim.after(func() { b.followUp(d, v.cert.ID) })
	}
	return false
}

// decide goes down the decision table of rules section 4.4; rows 1 and 2 are behind us.
func (d *deviceConn) decide(tx *tx) (verdict, error) {
	if !clientIDAllowed(d.clientID) {
		return verdict{why: "client id is not allowed"}, nil // rule M-13
	}
	leaf := d.chain[0]
	if !valid(leaf, tx.now) { // row 3, rule DC-15
		return verdict{why: "certificate is outside its validity"}, nil
	}
	cert, err := certificates.get(tx, d.at.key(certificateID(leaf)))
	if err != nil {
		return verdict{}, err
	}
	switch {
	case cert == nil:
		return d.unknown(tx, leaf)
	case d.sni == "" && cert.Mode == modeSNIOnly: // row 2, rule T-05
		return verdict{why: "SNI_ONLY certificate without SNI"}, nil
	case cert.Status == statusPending: // row 6, rules M-05, J-02
		return verdict{why: "certificate is PENDING_ACTIVATION", cert: cert, followUp: true}, nil
	case cert.Status != statusActive: // row 5, rule M-08
		return verdict{why: "certificate is " + cert.Status}, nil
	}
	ok, err := permitted(tx, d, cert, "iot:Connect", "client/"+d.clientID)
	if err != nil || !ok { // row 4, rule M-06
		return verdict{why: "no policy allows iot:Connect", cert: cert, denied: true}, err
	}
	return verdict{cert: cert}, nil
}

func clientIDAllowed(id string) bool {
	return id != "" && len(id) <= maxClientID && !strings.HasPrefix(id, "$")
}

// unknown is rows 7 and 8. The CA counts by its subject and its signature; one of another account or region does not (M-11).
func (d *deviceConn) unknown(tx *tx, leaf *x509.Certificate) (verdict, error) {
	cas, err := casNamed(tx, d.at, leaf.RawIssuer)
	if err != nil {
		return verdict{}, err
	}
	for _, ca := range cas {
		cert, err := ca.cert()
		if err != nil {
			return verdict{}, err
		}
		if !signedBy(leaf, cert) {
			continue
		}
		switch {
		case ca.Status != statusActive, ca.AutoRegistration != autoEnable: // rule M-09
			return verdict{why: "the CA is " + ca.Status + ", auto-registration " + ca.AutoRegistration}, nil
		case d.sni == "" && ca.Mode == modeSNIOnly: // rule T-05
			return verdict{why: "SNI_ONLY CA without SNI"}, nil
		}
		if err := checkContent(leaf, tx.now); err != nil { // rules DC-13, DC-15
			return verdict{why: err.Error()}, nil
		}
		return verdict{why: "first connect", signer: ca}, nil
	}
	return verdict{why: "no registered CA signed the certificate"}, nil
}

// firstConnect registers the certificate as PENDING_ACTIVATION (DC-01, M-02).
func (s *Sim) firstConnect(d *deviceConn, ca *caCertificate) (verdict, error) {
	if !s.mayRegister(d.at) { // row 9, rule DC-18
		return verdict{why: "more registrations than allowed in a second"}, nil
	}
	v := verdict{why: "first connect: registered as PENDING_ACTIVATION", followUp: true}
	err := s.store.update(func(tx *tx) (err error) {
		v.cert, err = addCertificate(tx, d.at, d.chain[0], ca, statusPending)
		return err
	})
	var e *apiError
	if errors.As(err, &e) { // the same device was faster on another connection, or another account owns it
		return verdict{why: e.message}, nil
	}
	return v, err
}

// mayRegister takes a token of the place's bucket.
func (s *Sim) mayRegister(at place) bool {
	if s.cfg.RegistrationsPerSecond == 0 {
		return true
	}
	s.limitsMu.Lock()
	defer s.limitsMu.Unlock()
	l, ok := s.limits[at]
	if !ok {
		l = rate.NewLimiter(rate.Limit(s.cfg.RegistrationsPerSecond), s.cfg.RegistrationsPerSecond)
		s.limits[at] = l
	}
	return l.AllowN(s.clock.now(), 1)
}

// after runs what AWS does on its own after a first connect: once ProvisionDelay is over, or at once where there is none, so
// that a device that comes back immediately finds it done.
func (s *Sim) after(work func()) {
	if s.cfg.ProvisionDelay == 0 {
		work()
		return
	}
	s.running.Go(func() {
		timer := time.NewTimer(s.cfg.ProvisionDelay)
		defer timer.Stop()
		select {
		case <-timer.C:
			work()
		case <-s.ctx.Done(): // the next connect does it
		}
	})
}
