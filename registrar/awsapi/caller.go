package awsapi

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithy "github.com/aws/smithy-go/middleware"
)

// Keys are explicit credentials.
type Keys struct{ ID, Secret string }

// Config says how a Caller reaches AWS. The zero value does as every AWS tool does: environment, shared files, profiles, SSO.
type Config struct {
	// Keys, where given, are all that is used: no AWS_* variable, shared file, SSO session or instance role is looked at.
	// Connect then wants an Access.Endpoint.
	Keys *Keys
	// Transport carries the requests; nil is the SDK's own, which honours AWS_CA_BUNDLE and proxies.
	Transport http.RoundTripper
	// Pace, where given, is waited for before every request to a service, retries included. Region is "" for what an account has once.
	Pace func(ctx context.Context, account, region, operation string) error
}

// Access is the way into an account.
type Access struct {
	Role       string // ARN of a role to assume; "" uses the caller's own credentials
	ExternalID string // for the role; "" none
	Profile    string // of the shared configuration; "" is the ambient one
	Endpoint   string // URL that stands in for every AWS service; it overrides AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_IOT
}

// Caller opens targets. Its methods may be called concurrently.
type Caller struct {
	cfg Config

	mu   sync.Mutex            // guards base
	base map[Access]aws.Config // by profile and endpoint: loaded once
}

// NewCaller makes a Caller; nothing is read or called yet.
func NewCaller(cfg Config) *Caller {
	return &Caller{cfg: cfg, base: make(map[Access]aws.Config)}
}

// Target is one account in one region. Its methods may be called concurrently.
type Target struct {
	Account, Region string
	Override        string // endpoint in use instead of AWS's own; "" is AWS itself

	iot    *iot.Client
	sts    *sts.Client
	iam    *iam.Client
	lambda *lambda.Client
}

// Times of one request.
const (
	requestTime = 30 * time.Second
	sessionName = "certmill"
)

// Connect opens a target and gets credentials for it, through AssumeRole where access says so. That the credentials belong to the
// account is not checked here: ask Identity before anything else (S-07).
func (c *Caller) Connect(ctx context.Context, access Access, account, region string) (*Target, error) {
	cfg, err := c.load(ctx, access, region)
	if err != nil {
		return nil, &Error{Kind: Denied, Operation: "credentials", err: err}
	}
	cfg.Region = region // also of STS: the global endpoint's tokens may be refused in opt-in regions (S-05)
	if access.Role != "" {
		assume := sts.NewFromConfig(cfg, func(o *sts.Options) { override(&o.BaseEndpoint, access) })
		provider := stscreds.NewAssumeRoleProvider(assume, access.Role, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = sessionName
			if access.ExternalID != "" {
				o.ExternalID = &access.ExternalID
			}
		})
		cfg.Credentials = aws.NewCredentialsCache(provider) // renews sessions: an apply may outlive one (K-09)
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return nil, noCredentials(err)
	}
	return c.target(cfg, access, account, region), nil
}

func (c *Caller) target(cfg aws.Config, access Access, account, region string) *Target {
	local, wide := cfg.Copy(), cfg.Copy()
	if c.cfg.Pace != nil {
		local.APIOptions = append(local.APIOptions, c.pace(account, region))
		wide.APIOptions = append(wide.APIOptions, c.pace(account, ""))
	}
	t := &Target{
		Account: account, Region: region,
		iot:    iot.NewFromConfig(local, func(o *iot.Options) { override(&o.BaseEndpoint, access) }),
		lambda: lambda.NewFromConfig(local, func(o *lambda.Options) { override(&o.BaseEndpoint, access) }),
		sts:    sts.NewFromConfig(local, func(o *sts.Options) { override(&o.BaseEndpoint, access) }),
		iam:    iam.NewFromConfig(wide, func(o *iam.Options) { override(&o.BaseEndpoint, access) }),
	}
	t.Override = aws.ToString(t.iot.Options().BaseEndpoint)
	return t
}

func override(base **string, access Access) {
	if access.Endpoint != "" {
		*base = &access.Endpoint
	}
}

// load gives the caller's own configuration, without the role.
func (c *Caller) load(ctx context.Context, access Access, region string) (aws.Config, error) {
	key := Access{Profile: access.Profile, Endpoint: access.Endpoint}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cfg, ok := c.base[key]; ok {
		return cfg.Copy(), nil
	}
	cfg, err := c.read(ctx, access, region)
	if err != nil {
		return cfg, err
	}
	cfg.Retryer = func() aws.Retryer { return retryReads() }
	cfg.APIOptions = append(cfg.APIOptions, recogniseUnsupported)
	c.base[key] = cfg
	return cfg.Copy(), nil
}

func (c *Caller) read(ctx context.Context, access Access, region string) (aws.Config, error) {
	var client config.HTTPClient = awshttp.NewBuildableClient().WithTimeout(requestTime)
	if c.cfg.Transport != nil {
		client = &http.Client{Transport: c.cfg.Transport, Timeout: requestTime}
	}
	if k := c.cfg.Keys; k != nil {
		if access.Endpoint == "" || access.Profile != "" {
			return aws.Config{}, fmt.Errorf("explicit keys want an access with an endpoint and without a profile")
		}
		return aws.Config{HTTPClient: client, Credentials: credentials.NewStaticCredentialsProvider(k.ID, k.Secret, "")}, nil
	}
	options := []func(*config.LoadOptions) error{config.WithRegion(region), config.WithHTTPClient(client)}
	if access.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(access.Profile))
	}
	local := onThisMachine(access.Endpoint)
	if local {
		options = append(options, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil || !local {
		return cfg, err
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil { // a simulator takes any: nobody needs an AWS account to try one
		cfg.Credentials = credentials.NewStaticCredentialsProvider("certmill", "certmill", "")
	}
	return cfg, nil
}

// onThisMachine reports whether an endpoint is a simulator on the loopback interface.
func onThisMachine(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// pace makes every attempt wait for its turn. It stands behind the SDK's retry and before its signature.
func (c *Caller) pace(account, region string) func(*smithy.Stack) error {
	return func(stack *smithy.Stack) error {
		wait := smithy.FinalizeMiddlewareFunc("certmill.Pace", func(ctx context.Context, in smithy.FinalizeInput, next smithy.FinalizeHandler) (smithy.FinalizeOutput, smithy.Metadata, error) {
			if err := c.cfg.Pace(ctx, account, region, smithy.GetOperationName(ctx)); err != nil {
				return smithy.FinalizeOutput{}, smithy.Metadata{}, err
			}
			return next.HandleFinalize(ctx, in)
		})
		return stack.Finalize.Insert(wait, "Retry", smithy.After)
	}
}

// noCredentials keeps the kind where STS gave a reason; a missing credential is a denial.
func noCredentials(err error) error {
	e := classified("credentials", err).(*Error)
	if e.Code == "" {
		e.Kind = Denied
	}
	return e
}
