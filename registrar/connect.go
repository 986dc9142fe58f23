package registrar

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// FirstConnect is a device that meets AWS IoT for the first time: the first CONNECT registers its certificate and is refused (M-01, M-02),
// later ones are refused until provisioning is through, and then it is in.
type FirstConnect struct {
	Endpoint    string          // name of the account's endpoint, as DescribeEndpoint gives it; sent as SNI (T-06)
	Address     string          // TCP address to dial; "" is Endpoint:8883
	ServerCAs   *x509.CertPool  // that the server's certificate must come from; nil is the system's
	Certificate tls.Certificate // leaf, issuing CA and private key; both certificates are sent (T-09)
	ClientID    string          // the thing's name, so that policies on thing variables work (M-20)
	ALPN        bool            // ask for x-amzn-mqtt-ca, as port 443 wants
	Topic       string          // to publish one message to once connected; "" publishes nothing
	Payload     []byte
	FirstPause  time.Duration // between attempts, doubled up to a minute. Default 1 s, the fastest that AWS takes from one client (M-15)
	Step        func(ConnectStep)
}

// ConnectStep is something that happened on the way.
type ConnectStep struct {
	What   string        // StepRefused, StepConnected or StepPublished
	After  time.Duration // since the start
	Reason string        // of a refusal
}

// What happened in a ConnectStep.
const (
	StepRefused   = "refused"
	StepConnected = "connected"
	StepPublished = "published"
)

// Times of one attempt.
const (
	connectTime = 15 * time.Second
	publishTime = 10 * time.Second
	keepAlive   = 30 * time.Second
	longPause   = time.Minute
)

// Run connects until it succeeds or ctx ends, publishes, disconnects, and returns the steps. A refusal is expected and no error; the error of
// a ctx that ended carries the last refusal. No goroutine is left behind.
func (f FirstConnect) Run(ctx context.Context) (steps []ConnectStep, err error) {
	start := time.Now()
	tell := func(what, reason string) {
		s := ConnectStep{what, time.Since(start), reason}
		steps = append(steps, s)
		if f.Step != nil {
			f.Step(s)
		}
	}
	for pause := cmp.Or(f.FirstPause, time.Second); ; pause = min(2*pause, longPause) {
		client, err := f.connect(ctx)
		if err == nil {
			tell(StepConnected, "")
			err := f.publish(ctx, client)
			client.Disconnect(250) // milliseconds for what is still to be sent
			if err != nil {
				return steps, fmt.Errorf("publish to %s: %w", f.Topic, err)
			}
			if f.Topic != "" {
				tell(StepPublished, "")
			}
			return steps, nil
		}
		tell(StepRefused, err.Error())
		if waitErr := wait(ctx, pause); waitErr != nil {
			return steps, fmt.Errorf("%s was not let in at %s: %w; last refusal: %w", f.ClientID, f.Endpoint, waitErr, err)
		}
	}
}

// connect makes one attempt.
func (f FirstConnect) connect(ctx context.Context) (mqtt.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := f.dial(ctx)
	if err != nil {
		return nil, err
	}
	o := mqtt.NewClientOptions().AddBroker("tls://" + f.Endpoint).SetClientID(f.ClientID).SetProtocolVersion(4).
		SetAutoReconnect(false).SetConnectRetry(false).SetKeepAlive(keepAlive).SetConnectTimeout(connectTime).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return conn, nil })
	client := mqtt.NewClient(o)
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // paho's connect does not know ctx
	defer stop()
	token := client.Connect()
	<-token.Done()
	if err := token.Error(); err != nil {
		return nil, errors.Join(err, closed(conn))
	}
	return client, nil
}

// closed closes a connection that paho may have closed before.
func closed(conn net.Conn) error {
	if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (f FirstConnect) dial(ctx context.Context) (net.Conn, error) {
	address := cmp.Or(f.Address, net.JoinHostPort(f.Endpoint, "8883"))
	cfg := &tls.Config{ServerName: f.Endpoint, RootCAs: f.ServerCAs, Certificates: []tls.Certificate{f.Certificate}, MinVersion: tls.VersionTLS12}
	if f.ALPN {
		cfg.NextProtos = []string{"x-amzn-mqtt-ca"}
	}
	return (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", address)
}

func (f FirstConnect) publish(ctx context.Context, client mqtt.Client) error {
	if f.Topic == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	token := client.Publish(f.Topic, 1, false, f.Payload)
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}
