package registrar

import (
	"context"
	"encoding/json"
	"reflect"

	"github.com/certmill/certmill/registrar/awsapi"
)

// step is what an action does at a target. Doing it twice, with a look in between, has one effect.
type step interface {
	// done looks whether AWS is as the step leaves it. It changes nothing.
	done(context.Context, *awsapi.Target) (answer, error)
	// do makes one attempt.
	do(context.Context, *awsapi.Target, *tools) error
}

// tools are what steps need beside the target.
type tools struct{ prover Prover }

// Prover signs the certificate with which a CA in DEFAULT mode is proved to AWS: CN = code, signed by the CA's key. It returns one PEM block.
type Prover interface {
	Prove(ctx context.Context, ca, account, region, code string) (pem []byte, err error)
}

// answer is what a look tells. An answer of AWS that lacks a field cannot tell.
type answer int

const (
	no answer = iota
	yes
	cannotTell
)

func whether(b bool) answer {
	if b {
		return yes
	}
	return no
}

// absent turns a look that found nothing into "no"; another error stays one.
func absent(err error) (answer, error) {
	if awsapi.KindOf(err) == awsapi.NotFound {
		return no, nil
	}
	return no, err
}

// asJSON writes what certmill made itself, in one fixed form.
func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("registrar: " + err.Error())
	}
	return string(b)
}

// sameJSON compares two documents by what they say. AWS may hand a document back with other white space and order of members.
func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return a == b
	}
	return reflect.DeepEqual(x, y)
}
