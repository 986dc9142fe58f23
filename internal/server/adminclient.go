package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"syscall"

	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// ErrNotServing is returned by an AdminClient where no serve answers at the socket.
var ErrNotServing = errors.New("no certmill serve is running here")

// AdminClient gives commands to a service. A refusal is a *client.Problem. Its methods may be called concurrently.
type AdminClient struct{ http *http.Client }

// NewAdminClient speaks to the serve whose admin socket this is.
func NewAdminClient(socket string) *AdminClient {
	return &AdminClient{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// Close ends idle connections.
func (a *AdminClient) Close() { a.http.CloseIdleConnections() }

// Status tells how the service is.
func (a *AdminClient) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, a, "/status")
}

// CreateOrder opens an order.
func (a *AdminClient) CreateOrder(ctx context.Context, s issuer.OrderSpec) (issuer.Order, error) {
	return post[issuer.Order](ctx, a, "/orders", s)
}

// Orders lists all orders.
func (a *AdminClient) Orders(ctx context.Context) ([]issuer.Order, error) {
	return get[[]issuer.Order](ctx, a, "/orders")
}

// Order tells how one order stands.
func (a *AdminClient) Order(ctx context.Context, id string) (issuer.Order, error) {
	return get[issuer.Order](ctx, a, "/orders/"+url.PathEscape(id))
}

// Manifest yields the devices of an order; an error ends the sequence.
func (a *AdminClient) Manifest(ctx context.Context, order string) iter.Seq2[issuer.ManifestLine, error] {
	return lines[issuer.ManifestLine](ctx, a, "/orders/"+url.PathEscape(order)+"/manifest")
}

// AddStation adds a station. The CSR is DER.
func (a *AdminClient) AddStation(ctx context.Context, name string, csr []byte) (AddedStation, error) {
	return post[AddedStation](ctx, a, "/stations", newStation{name, csr})
}

// Stations lists all stations.
func (a *AdminClient) Stations(ctx context.Context) ([]issuer.Station, error) {
	return get[[]issuer.Station](ctx, a, "/stations")
}

// DisableStation keeps a station out from its next request on.
func (a *AdminClient) DisableStation(ctx context.Context, name, why string) error {
	_, err := post[nothing](ctx, a, "/stations/"+url.PathEscape(name)+"/disable", reason{why})
	return err
}

// Freeze stops a CA, an order, a station or all.
func (a *AdminClient) Freeze(ctx context.Context, t issuer.Target, why string) error {
	_, err := post[nothing](ctx, a, "/freeze", freezing{t.Kind, t.Name, why})
	return err
}

// Unfreeze starts it again.
func (a *AdminClient) Unfreeze(ctx context.Context, t issuer.Target, why string) error {
	_, err := post[nothing](ctx, a, "/unfreeze", freezing{t.Kind, t.Name, why})
	return err
}

// Frozen lists what is stopped.
func (a *AdminClient) Frozen(ctx context.Context) ([]issuer.Target, error) {
	return get[[]issuer.Target](ctx, a, "/frozen")
}

// CAs lists the CAs of the ledger.
func (a *AdminClient) CAs(ctx context.Context) ([]issuer.CARecord, error) {
	return get[[]issuer.CARecord](ctx, a, "/cas")
}

// Chain returns a CA's certificate and those above it, in PEM.
func (a *AdminClient) Chain(ctx context.Context, ca string) ([]byte, error) {
	return get[[]byte](ctx, a, "/cas/"+url.PathEscape(ca)+"/chain")
}

// Profiles lists the profiles of the configuration.
func (a *AdminClient) Profiles(ctx context.Context) ([]Profile, error) {
	return get[[]Profile](ctx, a, "/profiles")
}

// Prove has an AWS verification certificate signed for the registration code of an account and region: PEM.
func (a *AdminClient) Prove(ctx context.Context, ca, account, region, code string) ([]byte, error) {
	return post[[]byte](ctx, a, "/prove", proving{ca, account, region, code})
}

func get[Resp any](ctx context.Context, a *AdminClient, path string) (Resp, error) {
	return fetch[Resp](ctx, a, http.MethodGet, path, nil)
}

func post[Resp any](ctx context.Context, a *AdminClient, path string, in any) (Resp, error) {
	body, err := json.Marshal(in)
	if err != nil {
		var none Resp
		return none, err
	}
	return fetch[Resp](ctx, a, http.MethodPost, path, body)
}

// fetch gives one command and reads its answer.
func fetch[Resp any](ctx context.Context, a *AdminClient, method, path string, body []byte) (out Resp, err error) {
	res, err := a.do(ctx, method, path, body)
	if err != nil {
		return out, err
	}
	defer res.Body.Close()
	return out, json.NewDecoder(res.Body).Decode(&out)
}

// do sends one request; a refusal becomes a *client.Problem.
func (a *AdminClient) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://certmill"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", client.TypeJSON)
	res, err := a.http.Do(req)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w: %w", ErrNotServing, err)
	}
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	p := &client.Problem{}
	if err := json.NewDecoder(res.Body).Decode(p); err != nil {
		return nil, fmt.Errorf("admin socket answered %s: %w", res.Status, err)
	}
	return nil, p
}
