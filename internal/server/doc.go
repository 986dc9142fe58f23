// Package server is certmill over HTTP (design.md section 7; openapi.yaml beside this file is checked against it).
//
// A Server has four doors, each a handler for a listener of its own:
//
//	Stations   mutual TLS: certificates for orders; a station's expiry and standing are checked on every request
//	Public     plain HTTP: CA certificates, and nothing else
//	Metrics    livez, readyz, metrics
//	Admin      a unix socket: the commands of whoever may open it, known by the uid at its other end
//
// A request passes a door in one way: identity, limits, route, body (bounded before it is parsed), the few lines that
// differ, answer. Every error leaves through one table (problem.go); what it says is written for whoever stands at the
// line. The server decides nothing about certificates: that is the issuer's, and the server keeps no state but counters.
package server
