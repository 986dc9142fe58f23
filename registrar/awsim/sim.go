package awsim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Config says what is simulated. Only Dir is required.
type Config struct {
	Listen string // host:port of the HTTP endpoint; "" is a free port on 127.0.0.1
	MQTT   string // host:port of the MQTT listener; "" is a free port on 127.0.0.1
	Dir    string // where the state is kept: state.db, ca.pem; made where it is missing

	Accounts       []string // those that exist, 12 digits each; empty: all of them
	Regions        []string // those that exist; empty: all of them
	EndpointSuffix string   // of the names that devices connect to; "" is amazonaws.com

	ProvisionDelay          time.Duration // from a first connect to the run of its template or function; 0: before the connection is closed
	RegistrationsPerSecond  int           // of certificates, per account and region (DC-18); 0: no limit
	MixedModes              bool          // a CA may be DEFAULT in one account and SNI_ONLY in another of the region (CA-16)
	NoEventWithProvisioning bool          // JITP does not publish the registered event as well (P-03)

	Now func() time.Time // the world's time; nil: time.Now
	Log *slog.Logger     // nil: nothing is logged
}

// Sim is a running simulator. All methods may be called concurrently.
type Sim struct {
	cfg      Config
	log      *slog.Logger
	clock    clock
	store    *store
	services map[string]http.Handler // by the service of the SigV4 scope
	control  http.Handler

	http     *http.Server
	listener net.Listener
	front    *front

	limitsMu sync.Mutex
	limits   map[place]*rate.Limiter // guarded by limitsMu

	ctx     context.Context // ends when the simulator does
	stop    context.CancelCauseFunc
	running sync.WaitGroup // the goroutines of Start
	done    chan struct{}  // closed when all has ended
	err     error          // why, once done is closed
}

// ErrConfig is returned for a Config that cannot be meant.
var ErrConfig = errors.New("configuration")

// Start runs a simulator until Close is called or ctx ends. When it returns, both listeners accept. Only one simulator
// may run on a Dir at a time. Errors: ErrConfig, and those of the folder and the ports.
func Start(ctx context.Context, cfg Config) (*Sim, error) {
	s, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("awsim: %w", err)
	}
	if err := s.listen(); err != nil {
		return nil, errors.Join(fmt.Errorf("awsim: %w", err), s.store.close())
	}
	s.ctx, s.stop = context.WithCancelCause(ctx)
	s.http = &http.Server{
		Handler: s, ReadHeaderTimeout: requestTime, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.running.Go(func() { s.stop(s.http.Serve(s.listener)) })
	s.running.Go(func() { s.stop(s.front.accept(s.ctx)) })
	go s.finish()
	return s, nil
}

// listen opens both ports.
func (s *Sim) listen() error {
	var ca *serverCA
	err := s.store.update(func(tx *tx) (err error) {
		ca, err = openServerCA(tx, s.CAFile(), s.clock.world())
		return err
	})
	if err != nil {
		return err
	}
	if s.listener, err = net.Listen("tcp", s.cfg.Listen); err != nil {
		return err
	}
	devices, err := net.Listen("tcp", s.cfg.MQTT)
	if err != nil {
		return errors.Join(err, s.listener.Close())
	}
	s.front = s.newFront(devices, ca)
	return nil
}

// open does what needs no network.
func open(cfg Config) (*Sim, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	s := &Sim{cfg: cfg, log: cfg.Log, clock: clock{world: cfg.Now}, done: make(chan struct{}), limits: map[place]*rate.Limiter{}}
	s.services = map[string]http.Handler{
		"iot":      s.route("iot", iotOperations()),
		"lambda":   s.route("lambda", lambdaOperations()),
		"dynamodb": s.routeTarget("DynamoDB_20120810", dynamoOperations()),
		"sts":      s.routeQuery("sts", queryXML{stsNamespace}, stsOperations()),
		"iam":      s.routeQuery("iam", queryXML{iamNamespace}, iamOperations()),
	}
	s.control = s.controlHandler()
	var err error
	if s.store, err = openStore(cfg.Dir, s.clock.now); err != nil {
		return nil, err
	}
	if err := s.restore(); err != nil {
		return nil, errors.Join(err, s.store.close())
	}
	return s, nil
}

var (
	regionName = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
	hostName   = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)*$`)
)

func (cfg *Config) complete() error {
	if cfg.Dir == "" {
		return fmt.Errorf("%w has no Dir", ErrConfig)
	}
	for _, a := range cfg.Accounts {
		if !accountID.MatchString(a) {
			return fmt.Errorf("%w: account %q has not 12 digits", ErrConfig, a)
		}
	}
	for _, r := range cfg.Regions {
		if !regionName.MatchString(r) {
			return fmt.Errorf("%w: region %q is not written like eu-central-1", ErrConfig, r)
		}
	}
	if !hostName.MatchString(cmp.Or(cfg.EndpointSuffix, "x")) {
		return fmt.Errorf("%w: endpoint suffix %q is not written like amazonaws.com", ErrConfig, cfg.EndpointSuffix)
	}
	for _, address := range []*string{&cfg.Listen, &cfg.MQTT} {
		if *address == "" {
			*address = "127.0.0.1:0"
		}
	}
	if cfg.EndpointSuffix == "" {
		cfg.EndpointSuffix = "amazonaws.com"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// restore takes up what an earlier run left.
func (s *Sim) restore() error {
	return s.store.update(func(tx *tx) error {
		seconds, err := advances.get(tx, advanceKey)
		if err != nil {
			return err
		}
		if seconds != nil {
			s.clock.set(asDuration(*seconds))
		}
		return dropSessions(tx, s.clock.world())
	})
}

// finish waits for the end, whoever brings it, and cleans up.
func (s *Sim) finish() {
	<-s.ctx.Done()
	grace, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), closeTime)
	defer cancel()
	hungUp := s.front.hangUp()
	err := s.http.Shutdown(grace)
	if err != nil {
		err = s.http.Close() // somebody is still sending a body
	}
	s.running.Wait()
	s.err = errors.Join(ended(context.Cause(s.ctx)), hungUp, err, s.front.stopBrokers(), s.store.close())
	close(s.done)
}

const closeTime = 3 * time.Second // for calls that are under way

var errClosed = errors.New("closed")

// ended tells ends that were asked for from failures.
func ended(cause error) error {
	for _, asked := range []error{errClosed, context.Canceled, context.DeadlineExceeded, http.ErrServerClosed} {
		if errors.Is(cause, asked) {
			return nil
		}
	}
	return cause
}

// Close stops the simulator and waits until it has ended; its state is kept in Dir.
func (s *Sim) Close() error {
	s.stop(errClosed)
	return s.Wait()
}

// Wait returns when the simulator has ended, with an error where it ended by itself.
func (s *Sim) Wait() error {
	<-s.done
	return s.err
}

// Endpoint is the URL of all services: what AWS_ENDPOINT_URL wants.
func (s *Sim) Endpoint() string { return "http://" + s.listener.Addr().String() }

// MQTTAddr is the host:port where devices connect, whatever endpoint name they ask for.
func (s *Sim) MQTTAddr() string { return s.front.listener.Addr().String() }

// CAFile is the path of the CA certificate that signed the MQTT server certificates: what a device trusts in place of Amazon's.
func (s *Sim) CAFile() string { return filepath.Join(s.cfg.Dir, "ca.pem") }
