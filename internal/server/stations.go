package server

import (
	"net/http"

	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// Stations is the door of the line stations. It must be served with StationTLS.
func (s *Server) Stations() http.Handler {
	return s.newDoor("stations", s.identify, map[string]methods{
		"/v1/orders/{order}/certificates":                    {http.MethodPost: (*call).issue},
		"/v1/orders/{order}/certificates/{serial}/challenge": {http.MethodPost: (*call).challenge},
		"/v1/orders/{order}/certificates/{serial}/confirm":   {http.MethodPost: (*call).confirm},
		"/v1/orders/{order}":                                 {http.MethodGet: (*call).order},
		"/v1/orders/{order}/chain":                           {http.MethodGet: (*call).chain},
		"/v1/orders/{order}/manifest":                        {http.MethodGet: (*call).manifest},
		"/v1/certificates/{serial}":                          {http.MethodGet: (*call).certificate},
		"/livez":                                             {http.MethodGet: (*call).livez},
		"/readyz":                                            {http.MethodGet: (*call).readyz},
	})
}

// identify lets a station in. A connection may outlive a certificate and a station's good standing, so the issuer is asked
// for both on every request.
func (s *Server) identify(c *call) (leave func(), err error) {
	if c.r.TLS == nil || len(c.r.TLS.VerifiedChains) == 0 {
		return nil, refuse(client.CodeStationNotAllowed, "there is no verified certificate")
	}
	if c.station, err = s.Issuer.Identify(c.r.TLS.VerifiedChains[0][0]); err != nil {
		return nil, err
	}
	s.metrics.stations.WithLabelValues(c.station.Name).Inc()
	return s.gates.enter(c.station.Name)
}

// drawable finds the order of the path, if this station may draw on it.
func (c *call) drawable() (issuer.Order, error) {
	o, err := c.s.Issuer.Order(c.r.PathValue("order"))
	if err != nil {
		return issuer.Order{}, err
	}
	if !matches(o.Stations, c.station.Name) {
		return issuer.Order{}, refuse(client.CodeStationNotAllowed, "order %s is for stations %s", o.ID, o.Stations)
	}
	return o, nil
}

// order tells how an order stands.
func (c *call) order() error {
	o, err := c.drawable()
	if err != nil {
		return err
	}
	c.sendJSON(http.StatusOK, client.TypeJSON, client.Order{
		ID: o.ID, Product: o.Product, Profile: o.Profile, CA: o.CA, State: o.State,
		Quantity: o.Quantity, Scrap: o.Scrap, Issued: o.Issued, Confirmed: o.Confirmed, Created: o.Created.UTC(),
		NotBefore: o.NotBefore, Until: o.Until,
	})
	return nil
}

// chain hands out the certificates above an order's devices.
func (c *call) chain() error {
	o, err := c.drawable()
	if err != nil {
		return err
	}
	pem, err := c.s.Issuer.Chain(o.CA)
	if err != nil {
		return err
	}
	c.send(http.StatusOK, client.TypePEM, pem)
	return nil
}

// manifest streams an order's devices.
func (c *call) manifest() error {
	o, err := c.drawable()
	if err != nil {
		return err
	}
	return stream(c, c.s.Issuer.Manifest(o.ID))
}
