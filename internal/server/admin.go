package server

import (
	"context"
	"encoding/pem"
	"net/http"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// Admin is the door of the commands: a unix socket (ListenAdmin), or the same process (InProcess). What stands in its
// answers is not part of the contract; AdminClient speaks it.
func (s *Server) Admin() http.Handler {
	return s.newDoor("admin", s.recognise, map[string]methods{
		"/status":                     {http.MethodGet: read((*call).status)},
		"/orders":                     {http.MethodGet: read((*call).orders), http.MethodPost: serveJSON((*call).createOrder)},
		"/orders/{order}":             {http.MethodGet: read((*call).anyOrder)},
		"/orders/{order}/manifest":    {http.MethodGet: (*call).anyManifest},
		"/orders/{order}/close":       {http.MethodPost: serveJSON((*call).closeOrder)},
		"/orders/{order}/unconfirmed": {http.MethodGet: (*call).unconfirmed},
		"/device":                     {http.MethodGet: read((*call).device)},
		"/device/rekey":               {http.MethodPost: serveJSON((*call).rekey)},
		"/device/challenge":           {http.MethodPost: serveJSON((*call).deviceChallenge)},
		"/device/confirm":             {http.MethodPost: serveJSON((*call).confirmDevice)},
		"/clock/accept":               {http.MethodPost: serveJSON((*call).acceptClock)},
		"/stations":                   {http.MethodGet: read((*call).stations), http.MethodPost: serveJSON((*call).addStation)},
		"/stations/{name}/disable":    {http.MethodPost: serveJSON((*call).disableStation)},
		"/frozen":                     {http.MethodGet: read((*call).frozen)},
		"/freeze":                     {http.MethodPost: serveJSON((*call).freeze)},
		"/unfreeze":                   {http.MethodPost: serveJSON((*call).unfreeze)},
		"/cas":                        {http.MethodGet: read((*call).cas)},
		"/cas/{ca}/chain":             {http.MethodGet: read((*call).anyChain)},
		"/profiles":                   {http.MethodGet: read((*call).profiles)},
		"/prove":                      {http.MethodPost: serveJSON((*call).prove)},
		"/store/snapshot":             {http.MethodGet: (*call).snapshot},
	})
}

// recognise lets a command in by the uid at the other end of its socket.
func (s *Server) recognise(c *call) (leave func(), err error) {
	p, ok := c.r.Context().Value(peerKey{}).(peer)
	switch {
	case !ok:
		return nil, refuse(client.CodeNotAllowed, "nobody knows who is asking")
	case p.err != nil:
		return nil, refuse(client.CodeNotAllowed, "it is not known who is asking: %w", p.err)
	case !p.here && !s.admits(p.uid):
		return nil, refuse(client.CodeNotAllowed, "uid %d may not use the admin socket", p.uid)
	}
	c.actor = p.name
	return func() {}, nil
}

// maxAdminBody bounds a command's request: an order with a list of devices and their attributes is the largest.
const maxAdminBody = 48 << 20

// adminDeadline bounds what one command may wait for: a few signatures.
const adminDeadline = time.Minute

// serveJSON is a command with a body: f is what differs between them.
func serveJSON[Req, Resp any](f func(c *call, ctx context.Context, in Req) (Resp, error)) handler {
	return func(c *call) error {
		if _, err := c.contentType(client.TypeJSON); err != nil {
			return err
		}
		body, err := c.body(maxAdminBody)
		if err != nil {
			return err
		}
		var in Req
		if err := decodeStrict(body, &in); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.r.Context(), adminDeadline)
		defer cancel()
		out, err := f(c, ctx, in)
		if err != nil {
			return err
		}
		c.sendJSON(http.StatusOK, client.TypeJSON, out)
		return nil
	}
}

// read is a command without one.
func read[Resp any](f func(c *call) (Resp, error)) handler {
	return func(c *call) error {
		out, err := f(c)
		if err != nil {
			return err
		}
		c.sendJSON(http.StatusOK, client.TypeJSON, out)
		return nil
	}
}

// nothing is the answer of a command that has nothing to tell.
type nothing struct{}

func (c *call) orders() ([]issuer.Order, error) { return list(c.s.Issuer.Orders()) }

func (c *call) anyOrder() (issuer.Order, error) {
	return c.s.tally.on(c.s.Issuer.Order(c.r.PathValue("order")))
}

func (c *call) anyManifest() error { return stream(c, c.s.Issuer.Manifest(c.r.PathValue("order"))) }

func (c *call) createOrder(ctx context.Context, in issuer.OrderSpec) (issuer.Order, error) {
	return c.s.Issuer.CreateOrder(ctx, in, c.actor)
}

func (c *call) stations() ([]issuer.Station, error) { return list(c.s.Issuer.Stations()) }

// newStation asks for a station.
type newStation struct {
	Name string `json:"name"`
	CSR  []byte `json:"csr"` // DER
}

// AddedStation is a new station with what its folder needs.
type AddedStation struct {
	Station     issuer.Station `json:"station"`
	Certificate []byte         `json:"certificate"` // DER
	Plant       []byte         `json:"plant"`       // the plant CA's certificate, PEM
}

func (c *call) addStation(ctx context.Context, in newStation) (AddedStation, error) {
	st, der, err := c.s.Issuer.AddStation(ctx, in.Name, in.CSR, c.actor)
	if err != nil {
		return AddedStation{}, err
	}
	plant, err := c.s.findCA(func(r issuer.CARecord) bool { return r.Role == ca.RolePlant })
	if err != nil {
		return AddedStation{}, err
	}
	pemPlant := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: plant.Certificate})
	return AddedStation{Station: st, Certificate: der, Plant: pemPlant}, nil
}

// reason says why.
type reason struct {
	Reason string `json:"reason"`
}

func (c *call) disableStation(ctx context.Context, in reason) (nothing, error) {
	return nothing{}, c.s.Issuer.DisableStation(ctx, c.r.PathValue("name"), in.Reason, c.actor)
}

// freezing names what is to stop or to start again, and why.
type freezing struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

func (c *call) freeze(ctx context.Context, in freezing) (nothing, error) {
	return nothing{}, c.s.Issuer.Freeze(ctx, issuer.Target{Kind: in.Kind, Name: in.Name}, in.Reason, c.actor)
}

func (c *call) unfreeze(ctx context.Context, in freezing) (nothing, error) {
	return nothing{}, c.s.Issuer.Unfreeze(ctx, issuer.Target{Kind: in.Kind, Name: in.Name}, in.Reason, c.actor)
}

func (c *call) frozen() ([]issuer.Target, error) { return list(c.s.Issuer.Frozen(), nil) }

func (c *call) cas() ([]issuer.CARecord, error) { return list(issuer.CAs(c.s.Ledger)) }

func (c *call) anyChain() ([]byte, error) { return c.s.Issuer.Chain(c.r.PathValue("ca")) }

// Profile names a profile of the configuration.
type Profile struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	CA     string `json:"ca"` // "": any
	Hash   string `json:"hash"`
	Source string `json:"source"` // YAML
}

func (c *call) profiles() ([]Profile, error) {
	out := make([]Profile, 0, len(c.s.Profiles))
	for _, p := range c.s.Profiles {
		out = append(out, Profile{p.Name(), p.Kind(), p.CA(), p.Hash(), string(p.Source())})
	}
	return out, nil
}

// proving asks for an AWS verification certificate.
type proving struct {
	CA      string `json:"ca"`
	Account string `json:"account"`
	Region  string `json:"region"`
	Code    string `json:"code"`
}

func (c *call) prove(ctx context.Context, in proving) ([]byte, error) {
	return c.s.Issuer.Prove(ctx, in.CA, in.Account, in.Region, in.Code, c.actor)
}

// list makes an empty list of none, so that nobody reads null.
func list[T any](v []T, err error) ([]T, error) {
	if v == nil && err == nil {
		v = []T{}
	}
	return v, err
}
