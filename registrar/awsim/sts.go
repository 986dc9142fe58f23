package awsim

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"

func stsOperations() []operation {
	return []operation{
		{name: "AssumeRole", write: true, serve: assumeRole},
		{name: "GetCallerIdentity", serve: getCallerIdentity},
	}
}

// temporaryPrefix begins the access keys that AssumeRole gives out.
const temporaryPrefix = "ASIA"

var (
	roleARN     = regexp.MustCompile(`^arn:aws:iam::([0-9]{12}):role/(?:[!-~]*/)?([\w+=,.@-]{1,64})$`)
	sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	externalID  = regexp.MustCompile(`^[\w+=,.@:/-]{2,}$`)
)

// assumption is the input of AssumeRole.
type assumption struct {
	account, role, roleARN, session string
	external                        string
	duration                        time.Duration
}

func readAssumption(form url.Values) (*assumption, error) { // rule S-01
	m := roleARN.FindStringSubmatch(form.Get("RoleArn"))
	if m == nil {
		return nil, validationError("%q is invalid", form.Get("RoleArn"))
	}
	a := &assumption{account: m[1], role: m[2], roleARN: m[0], session: form.Get("RoleSessionName"), external: form.Get("ExternalId"), duration: time.Hour}
	if !sessionName.MatchString(a.session) {
		return nil, validationError("Value '%s' at 'roleSessionName' failed to satisfy constraint", a.session)
	}
	if form.Has("ExternalId") && (!externalID.MatchString(a.external) || len(a.external) > 1224) {
		return nil, validationError("Value at 'externalId' failed to satisfy constraint")
	}
	if v := form.Get("DurationSeconds"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 900 || n > 43200 {
			return nil, validationError("Value '%s' at 'durationSeconds' failed to satisfy constraint", v)
		}
		a.duration = time.Duration(n) * time.Second
	}
	return a, nil
}

// assumeRole lets everybody into any role of any account that exists, unless the role was made here: then its trust policy decides.
func assumeRole(c *call) (any, error) {
	a, err := readAssumption(c.form())
	if err != nil {
		return nil, err
	}
	max := time.Hour // rule S-02: also the longest of a session from another role
	r, err := roles.get(c.tx, global(a.account).key(a.role))
	if err != nil {
		return nil, err
	}
	if !c.sim.accountExists(a.account) || r != nil && !r.trusts(c, a) { // rule S-03
		return nil, refuse(http.StatusForbidden, "AccessDenied", "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", c.who, a.roleARN)
	}
	if r != nil && !strings.Contains(c.who, ":assumed-role/") {
		max = time.Duration(r.MaxSession) * time.Second
	}
	if a.duration > max {
		return nil, validationError("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	return c.open(a)
}

// trusts asks the role's trust policy.
func (r *role) trusts(c *call, a *assumption) bool {
	d, err := parseDocument(r.Trust)
	if err != nil {
		return false
	}
	vars := map[string]string{}
	if a.external != "" {
		vars["sts:externalid"] = a.external
	}
	return allowed([]*document{d}, access{action: "sts:AssumeRole", by: &actor{account: c.account, arn: c.who}, vars: vars})
}

// open makes the session; its secret is known here, so its signatures are verified.
func (c *call) open(a *assumption) (any, error) {
	key := temporaryPrefix + rand.Text()[:16]
	roleID := "AROA" + strings.ToUpper(digest([]byte(a.roleARN))[:17])
	ses := &session{
		Account: a.account, ARN: assumedRole(a.account, a.role, a.session), UserID: roleID + ":" + a.session,
		Secret: rand.Text() + rand.Text()[:14], Token: rand.Text() + rand.Text() + rand.Text(), Expires: c.sim.clock.world().Add(a.duration),
	}
	type user struct{ AssumedRoleId, Arn string }
	type credentials struct{ AccessKeyId, SecretAccessKey, SessionToken, Expiration string }
	return struct {
		AssumedRoleUser user
		Credentials     credentials
	}{
		user{ses.UserID, ses.ARN},
		credentials{key, ses.Secret, ses.Token, ses.Expires.UTC().Format(time.RFC3339)},
	}, sessions.put(c.tx, key, ses)
}

func getCallerIdentity(c *call) (any, error) { // rule S-07
	return struct{ Arn, UserId, Account string }{c.who, c.userID, c.account}, nil
}

// dropSessions forgets those that ended; they would pile up over the years.
func dropSessions(tx *tx, now time.Time) error {
	rows, _, err := sessions.rows(tx, span{})
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.value.Expires.Before(now) {
			if err := sessions.delete(tx, r.key); err != nil {
				return err
			}
		}
	}
	return nil
}
