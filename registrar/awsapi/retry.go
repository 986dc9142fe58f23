package awsapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// throttledAttempts is how often a call is made that AWS answers with a throttle. The caller's pace keeps below AWS's rates, so a
// throttle means that somebody else works in the account too.
const throttledAttempts = 6

// retryReads is the SDK's standard retry, without what it gets wrong.
func retryReads() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(quotaIsFinal)}, o.Retryables...)
	})
}

// retryWrites repeats a call only when AWS said that it was too fast. After anything else the effect may be there, and the caller
// looks before it acts again: a second CreateProvisioningTemplateVersion would be a second version (K-04).
func retryWrites() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = throttledAttempts
		o.Retryables = []retry.IsErrorRetryable{
			retry.NoRetryCanceledError{},
			retry.IsErrorRetryableFunc(quotaIsFinal),
			retry.RetryableErrorCode{Codes: retry.DefaultThrottleErrorCodes},
		}
	})
}

// quotaIsFinal: the SDK counts LimitExceededException among the throttles, but the eleventh CA of one subject stays refused (K-03).
func quotaIsFinal(err error) aws.Ternary {
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "LimitExceededException" {
		return aws.FalseTernary
	}
	return aws.UnknownTernary
}

// recogniseUnsupported looks at the answer before the SDK tries to make an error of AWS out of it.
func recogniseUnsupported(stack *middleware.Stack) error {
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("certmill.Unsupported", func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, meta, err := next.HandleDeserialize(ctx, in)
		res, ok := out.RawResponse.(*smithyhttp.Response)
		if err != nil || !ok {
			return out, meta, err
		}
		html := strings.HasPrefix(res.Header.Get("Content-Type"), "text/html")
		if res.StatusCode == http.StatusNotImplemented || res.StatusCode == http.StatusInternalServerError && html {
			return out, meta, &unsupportedError{res.StatusCode}
		}
		return out, meta, nil
	}), middleware.After)
}
