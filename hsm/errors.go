package hsm

import "errors"

// Errors a caller branches on. Their wrapping text says what happened and what can be done.
var (
	ErrUnavailable = errors.New("HSM not available")                  // token away, signers gone, deadline passed: try again later
	ErrRefused     = errors.New("signer refused")                     // the signer's own check said no, and will say it again
	ErrPIN         = errors.New("PIN was not accepted")               // or could not be had; do not try again by yourself
	ErrBusy        = errors.New("signing queue is full")              // or a signer's rate cap is reached: try again later
	ErrNoKey       = errors.New("no such key in token")               // or more than one of that label
	ErrUnfit       = errors.New("key is not fit to sign")             // its attributes or its public half are not what is demanded
	ErrExists      = errors.New("key exists")                         // Generate with a label that is there
	ErrUnsupported = errors.New("this build has no token support")    // built without cgo, or not for Linux
	errProtocol    = errors.New("hsm: answer that was not asked for") // a bug of ours, or a signer that is not to be trusted
)

// code is how a process of ours says which of the errors it means. The numbers are part of the wire: never renumber.
type code byte

const (
	codeDone        code = 0 // the bytes are what was asked for
	codeRefused     code = 1 // the check, or the kind of process, says no
	codeRate        code = 2 // rate cap reached
	codeNoKey       code = 3
	codeExists      code = 4
	codeToken       code = 5 // the token failed: another process may do better, this one ends
	codePIN         code = 6 // no second try
	codeUnfit       code = 7
	codeModule      code = 8 // the module cannot be loaded: trying again is pointless
	codeUnsupported code = 9
)

// sentinels says what each code means to a caller.
var sentinels = [...]error{
	codeDone: nil, codeRefused: ErrRefused, codeRate: ErrBusy, codeNoKey: ErrNoKey, codeExists: ErrExists, codeToken: ErrUnavailable,
	codePIN: ErrPIN, codeUnfit: ErrUnfit, codeModule: ErrUnavailable, codeUnsupported: ErrUnsupported,
}

// failure is an error that crosses a process boundary: a code and a sentence.
type failure struct {
	Code     code
	Text     string
	LoggedIn bool         // the token had accepted the PIN before
	Found    *Examination `json:",omitempty"` // by an examination, before it failed
	cause    error
}

func (f *failure) Error() string { return f.Text }

// Unwrap is the sentinel of the code; a code of a later version is ErrUnavailable.
func (f *failure) Unwrap() error {
	if int(f.Code) < len(sentinels) {
		return sentinels[f.Code]
	}
	return ErrUnavailable
}

// final reports whether a start that failed this way would fail again.
func (f *failure) final() bool { return f.Code != codeToken }

// asFailure gives any error a code: what has none is the token's.
func asFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return &failure{Code: f.Code, Text: err.Error(), LoggedIn: f.LoggedIn}
	}
	return &failure{Code: codeToken, Text: err.Error(), cause: err}
}
