package awsim

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// caller is who signed a request, and what for.
type caller struct {
	place
	service string
	who     string // ARN of the identity
	userID  string
}

// session is what AssumeRole gave out; it is looked up by its access key.
type session struct {
	Account string    `json:"account"`
	ARN     string    `json:"arn"`
	UserID  string    `json:"user_id"`
	Secret  string    `json:"secret"`
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"` // by the world's clock, as the SDK that refreshes it
}

const sessions table[session] = "sessions"

var accountID = regexp.MustCompile(`^[0-9]{12}$`)

// maxSkew is how far a signature's time may be off.
const maxSkew = 5 * time.Minute

// signature is the Authorization header of SigV4, taken apart.
type signature struct {
	accessKey, day, region, service string
	headers                         []string // that are signed, in order
	value                           string   // hex
}

var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256\s+Credential=([^/,\s]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request,\s*SignedHeaders=([a-z0-9;_-]+),\s*Signature=([0-9a-f]{64})$`)

func readSignature(r *http.Request) (*signature, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return nil, refuse(http.StatusForbidden, "MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	m := authorization.FindStringSubmatch(header)
	if m == nil {
		return nil, refuse(http.StatusForbidden, "IncompleteSignatureException", "Authorization header is not AWS4-HMAC-SHA256 with Credential, SignedHeaders and Signature")
	}
	return &signature{accessKey: m[1], day: m[2], region: m[3], service: m[4], headers: strings.Split(m[5], ";"), value: m[6]}, nil
}

// authenticate finds the caller. Secrets of long-term keys are not known here, so only the signatures of temporary keys,
// which awsim made itself, are verified; the time of a signature always is (W-05, K-07).
func (s *Sim) authenticate(tx *tx, r *http.Request, body []byte) (*caller, error) {
	sig, err := readSignature(r)
	if err != nil {
		return nil, err
	}
	now := s.clock.world()
	if err := checkSkew(r, now); err != nil {
		return nil, err
	}
	c, err := s.callerOf(tx, sig, r, body)
	if err != nil {
		return nil, err
	}
	c.service, c.region = sig.service, sig.region
	if !s.accountExists(c.account) || !s.regionExists(c.service, c.region) {
		return nil, unknownToken()
	}
	return c, nil
}

func (s *Sim) callerOf(tx *tx, sig *signature, r *http.Request, body []byte) (*caller, error) {
	ses, err := sessions.get(tx, sig.accessKey)
	if err != nil {
		return nil, err
	}
	if ses == nil {
		if strings.HasPrefix(sig.accessKey, temporaryPrefix) && r.Header.Get("X-Amz-Security-Token") != "" {
			return nil, unknownToken()
		}
		account := s.accountOf(sig.accessKey)
		return &caller{place: place{account: account}, who: "arn:aws:iam::" + account + ":user/awsim", userID: sig.accessKey}, nil
	}
	if r.Header.Get("X-Amz-Security-Token") != ses.Token {
		return nil, unknownToken()
	}
	if !s.clock.world().Before(ses.Expires) {
		return nil, refuse(http.StatusForbidden, "ExpiredTokenException", "The security token included in the request is expired")
	}
	if !sig.matches(r, body, ses.Secret) {
		return nil, refuse(http.StatusForbidden, "InvalidSignatureException", "The request signature we calculated does not match the signature you provided.")
	}
	return &caller{place: place{account: ses.Account}, who: ses.ARN, userID: ses.UserID}, nil
}

func unknownToken() error {
	return refuse(http.StatusForbidden, "UnrecognizedClientException", "The security token included in the request is invalid.")
}

func checkSkew(r *http.Request, now time.Time) error {
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return refuse(http.StatusForbidden, "IncompleteSignatureException", "Date must be in ISO-8601 'basic format'")
	}
	if now.Sub(at).Abs() <= maxSkew {
		return nil
	}
	what := "expired"
	if at.After(now) {
		what = "not yet current"
	}
	return refuse(http.StatusForbidden, "InvalidSignatureException", "Signature %s: %s is now %s",
		what, r.Header.Get("X-Amz-Date"), now.UTC().Format("20060102T150405Z"))
}

// accountOf gives the account of a long-term access key: twelve digits are the account itself.
func (s *Sim) accountOf(accessKey string) string {
	if accountID.MatchString(accessKey) {
		return accessKey
	}
	if len(s.cfg.Accounts) > 0 {
		return s.cfg.Accounts[0]
	}
	return firstAccount
}

// firstAccount is that of access keys which name none.
const firstAccount = "111111111111"

func (s *Sim) accountExists(account string) bool {
	return len(s.cfg.Accounts) == 0 || slices.Contains(s.cfg.Accounts, account)
}

// regionExists is true everywhere for services that have one home for the world: their requests are signed for us-east-1.
func (s *Sim) regionExists(service, region string) bool {
	world := (service == "sts" || service == "iam") && region == "us-east-1"
	return world || len(s.cfg.Regions) == 0 || slices.Contains(s.cfg.Regions, region)
}

// assumedRole gives the ARN of a session of a role.
func assumedRole(account, role, name string) string {
	return fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", account, role, name)
}
