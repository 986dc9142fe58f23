package awsim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	helloTime      = 10 * time.Second // from accept to CONNECT; the broker sets no deadline of its own
	maxConnections = 4096
)

// front is the listener of all MQTT endpoints: one port, told apart by SNI.
type front struct {
	sim      *Sim
	listener net.Listener
	ca       *serverCA
	config   *tls.Config

	slots   chan struct{} // one for each open connection
	mu      sync.Mutex
	closed  bool                  // guarded by mu, as what follows
	open    map[net.Conn]struct{} // to be closed at the end
	brokers map[place]*broker
}

func (s *Sim) newFront(listener net.Listener, ca *serverCA) *front {
	f := &front{
		sim: s, listener: listener, ca: ca,
		slots: make(chan struct{}, maxConnections), open: map[net.Conn]struct{}{}, brokers: map[place]*broker{},
	}
	f.config = &tls.Config{ // rule T-01
		MinVersion:             tls.VersionTLS12,
		GetCertificate:         f.serverCertificate,
		ClientAuth:             tls.RequireAnyClientCert, // whom it belongs to is decided on the CONNECT packet (T-12)
		NextProtos:             []string{"x-amzn-mqtt-ca", "mqtt"},
		SessionTicketsDisabled: true,
	}
	return f
}

// serverCertificate refuses names that are no endpoint's, IP addresses among them (T-06).
func (f *front) serverCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if name := hello.ServerName; name != "" {
		err := f.sim.store.view(func(tx *tx) error {
			_, known, err := f.sim.placeOf(tx, name)
			if err == nil && !known {
				err = fmt.Errorf("%q is no endpoint", name)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return f.ca.certificate(hello.ServerName, f.sim.clock.world())
}

// accept serves connections until the listener is closed; each is one goroutine of the simulator.
func (f *front) accept(ctx context.Context) error {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept MQTT: %w", err)
		}
		select {
		case f.slots <- struct{}{}:
			f.sim.running.Go(func() {
				defer func() { <-f.slots }()
				f.serve(ctx, conn)
			})
		default:
			f.sim.log.Warn("awsim: too many connections", "limit", maxConnections)
			f.sim.write(conn.Close())
		}
	}
}

// deviceConn is a device's connection, its handshake done.
type deviceConn struct {
	*tls.Conn
	at    place
	sni   string
	chain []*x509.Certificate // as presented, the device's first

	cert     *certificate // the registered certificate, once the CONNECT is accepted
	clientID string
}

func (f *front) serve(ctx context.Context, conn net.Conn) {
	if !f.track(conn) {
		return
	}
	defer f.untrack(conn)
	log := f.sim.log.With("remote", conn.RemoteAddr().String())
	if err := conn.SetDeadline(time.Now().Add(helloTime)); err != nil {
		return
	}
	d := &deviceConn{Conn: tls.Server(conn, f.config)}
	if err := d.HandshakeContext(ctx); err != nil {
		log.Info("awsim: TLS handshake failed", "err", err)
		return
	}
	state := d.ConnectionState()
	d.sni, d.chain = state.ServerName, state.PeerCertificates
	known, err := f.locate(d)
	if err != nil || !known {
		_, readErr := d.Read(make([]byte, maxClientID)) // the refusal comes after the CONNECT, not before (T-12)
		log.Info("awsim: no account for the certificate", "sni", d.sni, "err", errors.Join(err, readErr))
		return
	}
	b, err := f.broker(d.at)
	if err != nil {
		log.Error("awsim: no broker", "err", err)
		return
	}
	if err := b.server.EstablishConnection(brokerListener, d); err != nil {
		log.Debug("awsim: connection ended", "sni", d.sni, "err", err)
	}
}

// locate finds account and region: by SNI, else by what the region knows of the certificate (T-07).
func (f *front) locate(d *deviceConn) (known bool, err error) {
	err = f.sim.store.view(func(tx *tx) error {
		if d.sni != "" {
			d.at, known, err = f.sim.placeOf(tx, d.sni)
			return err
		}
		d.at, known, err = placeOfChain(tx, d.chain)
		return err
	})
	return known, err
}

// placeOfChain is for connections without SNI: a DEFAULT certificate that is registered, or the DEFAULT CA in the chain that
// signed it, has one owner in a region. Of two regions neither is taken: AWS's listeners are one for each.
func placeOfChain(tx *tx, chain []*x509.Certificate) (at place, known bool, err error) {
	rows, _, err := defaultCertificates.rows(tx, span{prefix: certificateID(chain[0]) + "/"})
	if err != nil {
		return at, false, err
	}
	if len(rows) > 0 {
		return place{*rows[0].value, rows[0].key}, len(rows) == 1, nil
	}
	for _, ca := range chain[1:] {
		if !signedBy(chain[0], ca) {
			continue
		}
		owners, _, err := caOwners.rows(tx, span{prefix: certificateID(ca) + "/"})
		if err != nil {
			return at, false, err
		}
		if len(owners) == 1 && *owners[0].value == modeDefault {
			return placeOfKey(owners[0].key), true, nil
		}
	}
	return at, false, nil
}

// track remembers a connection so that close finds it; false means the end has come already.
func (f *front) track(conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		f.sim.write(conn.Close())
		return false
	}
	f.open[conn] = struct{}{}
	return true
}

func (f *front) untrack(conn net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, conn)
	if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		f.sim.log.Debug("awsim: close", "err", err)
	}
}

// hangUp closes the listener and every connection.
func (f *front) hangUp() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for conn := range f.open {
		f.sim.write(conn.Close())
	}
	return f.listener.Close()
}

// stopBrokers comes when no connection is left.
func (f *front) stopBrokers() error {
	var errs []error
	for _, b := range f.brokers {
		errs = append(errs, b.close())
	}
	return errors.Join(errs...)
}
