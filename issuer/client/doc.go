// Package client is the station's side of certmill: the types that travel over HTTP (design.md section 7) and a
// client that asks for certificates over mutual TLS.
//
// It needs no C compiler and no token, and nothing of certmill that does, so that a line station can carry it
// alone. Because a certificate is issued exactly once (promise P3), every call may be repeated after any
// failure: the client does so by itself for as long as its context lets it, and the answer is the same bytes.
//
// New makes a Client of a station.yaml; Client.Issue asks for one certificate and Client.IssueBatch for many. A station that must not
// lose a device through an outage keeps its requests in a Spool and calls Client.Replay. Package format writes the answers in the files
// that flash tools and label printers take.
package client
