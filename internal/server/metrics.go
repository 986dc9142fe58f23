package server

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics are what /metrics shows, in a registry of their own.
type metrics struct {
	registry *prometheus.Registry
	issued   prometheus.Counter
	replayed prometheus.Counter
	refused  *prometheus.CounterVec // by code
	seconds  prometheus.Histogram
	requests *prometheus.CounterVec // by door and status
	stations *prometheus.CounterVec // by station
	panics   prometheus.Counter
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		issued:   counter("certificates_issued_total", "Certificates made, each recorded before it was signed."),
		replayed: counter("certificates_replayed_total", "Requests answered with a certificate made before."),
		refused:  counters("requests_refused_total", "Requests and lines of batches answered with a problem, by its code.", "code"),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "certmill_issue_seconds",
			Help:    "From a parsed request to its certificate, the wait for both commits and the HSM included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16), // 0.5 ms to 16 s
		}),
		requests: counters("http_requests_total", "HTTP requests by listener and status.", "listener", "status"),
		stations: counters("station_requests_total", "HTTP requests of stations that were let in.", "station"),
		panics:   counter("panics_total", "Requests that met a fault of the service's own."),
	}
	m.registry.MustRegister(m.issued, m.replayed, m.refused, m.seconds, m.requests, m.stations, m.panics,
		gauge("ledger_entries", "Entries in the ledger.", nil, func() float64 { return float64(s.Ledger.Checkpoint().Size) }),
		gauge("open_intents", "Certificates recorded and not yet signed.", nil, func() float64 { return float64(s.Issuer.OpenIntents()) }),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	for name, t := range s.Tokens {
		m.watch(name, t)
	}
	return m
}

// watch shows one token.
func (m *metrics) watch(name string, t Token) {
	labels := prometheus.Labels{"token": name}
	ready := func() float64 {
		if t.Ready() != nil {
			return 0
		}
		return 1
	}
	total := func(name, help string, value func(TokenStats) uint64) prometheus.Collector {
		opts := prometheus.CounterOpts{Name: "certmill_" + name, Help: help, ConstLabels: labels}
		return prometheus.NewCounterFunc(opts, func() float64 { return float64(value(t.Stats())) })
	}
	m.registry.MustRegister(
		gauge("hsm_ready", "1 where the token could sign now.", labels, ready),
		gauge("hsm_signers", "Signer processes now.", labels, func() float64 { return float64(t.Stats().Signers) }),
		total("hsm_respawns_total", "Signer processes that were replaced.", func(s TokenStats) uint64 { return s.Respawns }),
		total("hsm_signatures_total", "Signatures made and verified.", func(s TokenStats) uint64 { return s.Signatures }),
		total("hsm_wrong_signatures_total", "Signatures that did not verify; none was released.", func(s TokenStats) uint64 { return s.Wrong }),
		total("hsm_refused_total", "To-be-signed bytes that the signer's own check refused.", func(s TokenStats) uint64 { return s.Refused }),
	)
}

func (m *metrics) request(door string, status int) {
	m.requests.WithLabelValues(door, strconv.Itoa(status)).Inc()
}

func (m *metrics) issuedIn(replayed bool, d time.Duration) {
	if replayed {
		m.replayed.Inc()
		return
	}
	m.issued.Inc()
	m.seconds.Observe(d.Seconds())
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: "certmill_" + name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "certmill_" + name, Help: help}, labels)
}

func gauge(name, help string, labels prometheus.Labels, f func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "certmill_" + name, Help: help, ConstLabels: labels}, f)
}
