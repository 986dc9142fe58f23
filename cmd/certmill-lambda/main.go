// Command certmill-lambda is what runs inside AWS: the function of the JITR rule. It activates the certificates that stand on the allow-list
// and nobody else's (package jitr says how). Where the table's stream is mapped to it as well (NEW_AND_OLD_IMAGES or KEYS_ONLY), it
// activates a certificate whose grace time was over when its row came.
//
// Environment: TABLE, the DynamoDB table of the allow-list (default certmill-allow-list); POLICY, the AWS IoT policy that each device gets
// (default certmill-device); GRACE, how long an unknown certificate may wait for its row (default 24h); CAS, ids of the CA certificates
// that are ours, separated by commas (default: those whose events come here).
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/certmill/certmill/registrar/awsapi"
	"github.com/certmill/certmill/registrar/jitr"
)

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	h, err := newHandler(context.Background(), os.Getenv, log)
	if err != nil {
		log.Error("certmill-lambda cannot start", "err", err)
		os.Exit(1)
	}
	lambda.Start(func(ctx context.Context, payload json.RawMessage) (jitr.Outcome, error) {
		return handle(ctx, h, payload)
	})
}

var certificateID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// newHandler reads the environment.
func newHandler(ctx context.Context, getenv func(string) string, log *slog.Logger) (*jitr.Handler, error) {
	h := &jitr.Handler{Policy: cmp.Or(getenv("POLICY"), "certmill-device"), Now: time.Now, Log: log}
	if grace := getenv("GRACE"); grace != "" {
		var err error
		if h.Grace, err = time.ParseDuration(grace); err != nil {
			return nil, fmt.Errorf("GRACE: %w", err)
		}
	}
	if cas := getenv("CAS"); cas != "" {
		for id := range strings.SplitSeq(cas, ",") {
			id = strings.ToLower(strings.TrimSpace(id))
			if !certificateID.MatchString(id) { // it would never match, and every device would wait for ever
				return nil, fmt.Errorf("CAS: %q is not the id of a CA certificate, 64 hex digits", id)
			}
			h.CAs = append(h.CAs, id)
		}
	}
	aws, err := awsapi.NewLambda(ctx, cmp.Or(getenv("TABLE"), "certmill-allow-list"))
	if err != nil {
		return nil, err
	}
	h.IoT, h.AllowList = aws, aws
	return h, nil
}

// handle decides about one event. An error has Lambda try again (rule R-05); an event that cannot be read would fail for ever.
func handle(ctx context.Context, h *jitr.Handler, payload []byte) (jitr.Outcome, error) {
	if rows, batched := newRows(payload); batched {
		return arrived(ctx, h, rows)
	}
	e, err := jitr.ParseEvent(payload)
	if err != nil {
		h.Log.Error("not an event of ours", "err", err)
		return jitr.Ignored, nil
	}
	outcome, err := h.Handle(ctx, e)
	h.Log.Info("registered certificate", "certificate_id", e.CertificateID, "outcome", outcome, "err", err)
	return outcome, err
}
