package awsim

import (
	"encoding/json"
	"errors"
	"os"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// presence publishes a lifecycle event (rules section 4.7). A client id that is no topic level has none.
func (b *broker) presence(d *deviceConn, kind string, more object) {
	if strings.ContainsAny(d.clientID, "+#/") {
		return
	}
	event := object{
		"clientId": d.clientID, "timestamp": b.sim.clock.now().UnixMilli(), "eventType": kind,
		"principalIdentifier": certificateID(d.chain[0]),
	}
	for k, v := range more {
		event[k] = v
	}
	payload, err := json.Marshal(event)
	if err != nil {
		b.sim.log.Error("awsim: presence", "err", err)
		return
	}
	b.tell(message{"$aws/events/presence/" + kind + "/" + d.clientID, payload})
}

// disconnectReason gives the end of a connection AWS's name.
func disconnectReason(cause, err error) string {
	switch {
	case errors.Is(cause, packets.CodeDisconnect):
		return "CLIENT_INITIATED_DISCONNECT"
	case errors.Is(cause, packets.ErrSessionTakenOver):
		return "DUPLICATE_CLIENTID"
	case errors.Is(cause, packets.ErrNotAuthorized):
		return "AUTH_ERROR"
	case errors.Is(cause, packets.ErrProtocolViolation):
		return "CLIENT_ERROR"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "MQTT_KEEP_ALIVE_TIMEOUT"
	}
	return "CONNECTION_LOST"
}
