package awsim

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// broker carries the messages of one account in one region; client ids and topics of another are another's.
type broker struct {
	sim    *Sim
	at     place
	server *mochi.Server

	events chan message  // what AWS itself publishes
	done   chan struct{} // closed when the last event is out
}

// message is something that AWS publishes.
type message struct {
	topic   string
	payload []byte
}

const (
	brokerListener = "devices"
	maxEvents      = 1024 // that wait; more are lost, as QoS 0 may be (J-10)
)

// Limits of AWS IoT's broker (M-13).
const (
	maxPacket     = 128 << 10 // bytes
	maxClientID   = 128       // bytes
	maxTopic      = 256       // bytes
	maxSlashes    = 7
	maxFilters    = 8 // in one SUBSCRIBE
	minKeepAlive  = 30
	longKeepAlive = 1200 // seconds; also for 0
)

// broker gives the broker of a place; the first connection starts it.
func (f *front) broker(at place) (*broker, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b, ok := f.brokers[at]; ok {
		return b, nil
	}
	limits := mochi.NewDefaultServerCapabilities()
	limits.MaximumQos, limits.MaximumPacketSize = 1, maxPacket
	b := &broker{
		sim: f.sim, at: at, events: make(chan message, maxEvents), done: make(chan struct{}),
		server: mochi.New(&mochi.Options{Capabilities: limits, InlineClient: true, Logger: slog.New(slog.DiscardHandler)}),
	}
	if err := errors.Join(b.server.AddHook(&hook{broker: b}, nil), b.server.Serve()); err != nil {
		return nil, err
	}
	go b.publish()
	f.brokers[at] = b
	return b, nil
}

// publish runs apart from the clients: a hook that published would wait for itself.
func (b *broker) publish() {
	defer close(b.done)
	for m := range b.events {
		if err := b.server.Publish(m.topic, m.payload, false, 0); err != nil {
			b.sim.log.Warn("awsim: event not published", "topic", m.topic, "err", err)
		}
	}
}

// tell queues an event.
func (b *broker) tell(m message) {
	select {
	case b.events <- m:
	default:
		b.sim.log.Warn("awsim: event lost", "topic", m.topic)
	}
}

// close comes when nobody tells anything any more.
func (b *broker) close() error {
	close(b.events)
	<-b.done
	return b.server.Close()
}

// hook is where mochi asks what AWS would do.
type hook struct {
	mochi.HookBase
	broker *broker
}

// ID names the hook.
func (h *hook) ID() string { return "awsim" }

// Provides says which methods are to be called.
func (h *hook) Provides(b byte) bool {
	return bytes.IndexByte([]byte{
		mochi.OnConnect, mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnSubscribe,
		mochi.OnSessionEstablished, mochi.OnDisconnect,
	}, b) >= 0
}

var errRefused = errors.New("connection refused")

// OnConnect decides on the CONNECT packet (M-01); an error closes without a CONNACK (M-02, M-03).
func (h *hook) OnConnect(cl *mochi.Client, pk packets.Packet) error {
	d := cl.Net.Conn.(*deviceConn)
	d.clientID = pk.Connect.ClientIdentifier
	switch keep := cl.State.Keepalive; {
	case keep == 0, keep > longKeepAlive:
		cl.State.Keepalive = longKeepAlive
	case keep < minKeepAlive:
		cl.State.Keepalive = minKeepAlive
	}
	if !h.broker.connect(d) {
		return errRefused
	}
	return nil
}

// OnConnectAuthenticate lets in what OnConnect let through.
func (h *hook) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

// OnACLCheck is asked for each PUBLISH, whose refusal ends the connection, for each delivery (iot:Receive), and for each
// filter that OnSubscribe left: one without wildcards needs iot:Receive too, or would bring nothing.
func (h *hook) OnACLCheck(cl *mochi.Client, topic string, write bool) bool {
	d, ok := cl.Net.Conn.(*deviceConn)
	if !ok {
		return true // AWS itself
	}
	if !write {
		return strings.ContainsAny(topic, "+#") || h.broker.may(d, "iot:Receive", "topic/"+topic)
	}
	if topicAllowed(topic) && !strings.HasPrefix(topic, "$aws/events/") && h.broker.may(d, "iot:Publish", "topic/"+topic) {
		return true
	}
	cl.Stop(packets.ErrNotAuthorized)
	return false
}

func topicAllowed(topic string) bool {
	return len(topic) <= maxTopic && strings.Count(topic, "/") <= maxSlashes
}

// OnSubscribe spoils the filters that are not allowed; mochi answers 0x80 for them.
func (h *hook) OnSubscribe(cl *mochi.Client, pk packets.Packet) packets.Packet {
	d, ok := cl.Net.Conn.(*deviceConn)
	if !ok {
		return pk
	}
	pk.Filters = slices.Clone(pk.Filters)
	for i := range pk.Filters {
		filter := pk.Filters[i].Filter
		if len(pk.Filters) > maxFilters || !topicAllowed(filter) || !h.broker.may(d, "iot:Subscribe", "topicfilter/"+filter) {
			pk.Filters[i].Filter = ""
		}
	}
	if len(pk.Filters) > maxFilters {
		cl.Stop(packets.ErrProtocolViolation)
	}
	return pk
}

// OnSessionEstablished tells of the connection.
func (h *hook) OnSessionEstablished(cl *mochi.Client, _ packets.Packet) {
	if d, ok := cl.Net.Conn.(*deviceConn); ok {
		h.broker.presence(d, "connected", object{})
	}
}

// OnDisconnect tells why the connection ended.
func (h *hook) OnDisconnect(cl *mochi.Client, err error, _ bool) {
	d, ok := cl.Net.Conn.(*deviceConn)
	if !ok || d.cert == nil {
		return
	}
	reason := disconnectReason(cl.StopCause(), err)
	h.broker.presence(d, "disconnected", object{
		"disconnectReason": reason, "clientInitiatedDisconnect": reason == "CLIENT_INITIATED_DISCONNECT",
	})
}
