package awsapi

import (
	"net"
	"strings"
	"testing"
)

// Where nobody answers, the line says so; what the SDK wraps around it ("failed to refresh cached credentials, …") hid it.
func TestNoAnswerIsSaidInOneBreath(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := NewCaller(Config{Keys: &Keys{ID: "111111111111", Secret: "x"}})
	access := Access{Role: "arn:aws:iam::111111111111:role/r", Endpoint: "http://" + address}
	_, err = c.Connect(t.Context(), access, "111111111111", "eu-central-1")
	if err == nil {
		t.Fatal("connected to nobody")
	}
	if text := err.Error(); !strings.HasPrefix(text, `AssumeRole: no answer: Post "http://`+address) || strings.Contains(text, "credentials") {
		t.Error(text)
	}
}
