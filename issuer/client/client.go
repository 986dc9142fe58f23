package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Client asks one service for certificates. Its methods may be called concurrently.
type Client struct {
	base *url.URL
	http *http.Client
}

// maxIdle is how many connections are kept for the next request: as many as a station may keep busy.
const maxIdle = 128

// New makes a client from a station's files. It connects with the first request.
func New(s Station) (*Client, error) {
	base, err := s.base()
	if err != nil {
		return nil, err
	}
	conf, err := s.tlsConfig()
	if err != nil {
		return nil, err
	}
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)
	return &Client{base: base, http: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:       conf,
			TLSHandshakeTimeout:   10 * time.Second,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			ResponseHeaderTimeout: time.Minute, // longer than the service's own deadline for an answer
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConns:          maxIdle,
			MaxIdleConnsPerHost:   maxIdle,
			Protocols:             http1,
		},
		// A certificate service has no reason to send anybody elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Issue asks for one certificate of an order and repeats the question, while the service is away or says that
// trying again may help, until ctx ends. A refusal is a *Problem.
func (c *Client) Issue(ctx context.Context, order string, r Request) (Answer, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return Answer{}, err
	}
	var a Answer
	err = retry(ctx, func() error {
		a = Answer{}
		res, err := c.do(ctx, http.MethodPost, certificatesPath(order), TypeJSON, body)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		a.Replayed = res.Header.Get(HeaderReplayed) == "true"
		return decode(res.Body, &a)
	})
	return a, err
}

// Order tells how an order stands. It repeats the question as Issue does.
func (c *Client) Order(ctx context.Context, id string) (Order, error) {
	var o Order
	err := retry(ctx, func() error {
		res, err := c.do(ctx, http.MethodGet, orderPath(id), "", nil)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		return decode(res.Body, &o)
	})
	return o, err
}

// Chain returns the certificates above an order's device certificates, in PEM. It repeats the question as Issue does.
func (c *Client) Chain(ctx context.Context, order string) ([]byte, error) {
	var chain []byte
	err := retry(ctx, func() error {
		res, err := c.do(ctx, http.MethodGet, orderPath(order)+"/chain", "", nil)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		chain, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		return err
	})
	return chain, err
}

func orderPath(order string) string { return "/v1/orders/" + url.PathEscape(order) }

func certificatesPath(order string) string { return orderPath(order) + "/certificates" }

// maxAnswer bounds what is read of any answer that is not a stream.
const maxAnswer = 1 << 20

// do sends one request. An answer that is no success becomes a *Problem and its body is closed.
func (c *Client) do(ctx context.Context, method, path, contentType string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base.String()+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusCreated {
		return res, nil
	}
	defer res.Body.Close()
	return nil, problemOf(res)
}

// problemOf reads the problem in an answer; what is none (a proxy's page) becomes one without a code.
func problemOf(res *http.Response) error {
	p := &Problem{}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if kind != TypeProblem || decode(res.Body, p) != nil {
		*p = Problem{Title: res.Status, Detail: "the answer is not one of certmill's", RequestID: res.Header.Get(HeaderRequest)}
		p.Retryable = res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= http.StatusInternalServerError
	}
	p.Status = res.StatusCode
	if s := retryAfter(res.Header.Get("Retry-After"), time.Now()); s > 0 {
		p.RetryAfter = s
	}
	return p
}

// retryAfter reads the header in both its forms, in seconds (RFC 9110 section 10.2.3); 0 where it says nothing.
func retryAfter(text string, now time.Time) int {
	if s, err := strconv.Atoi(text); err == nil {
		return max(s, 0)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(int(at.Sub(now).Seconds()), 0)
	}
	return 0
}

// decode reads one JSON value and drains what little may follow, so that the connection can be used again.
func decode(r io.Reader, v any) error {
	b, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(b) > maxAnswer {
		return errors.New("answer is longer than any of certmill's")
	}
	if err := json.Unmarshal(b, v); err != nil {
		return &permanent{fmt.Errorf("read answer: %w", err)}
	}
	return nil
}
