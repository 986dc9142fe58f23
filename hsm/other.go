//go:build !linux

package hsm

import "context"

// Check judges a TBS in the signer process before it is signed.
type Check func(policy []byte) (func(kind string, tbs []byte) error, error)

// RunKeeper says that this system has no token support.
func RunKeeper() error { return ErrUnsupported }

// RunSigner says that this system has no token support.
func RunSigner(Check) error { return ErrUnsupported }

func (m *member) supervise(ctx context.Context) {
	defer close(m.done)
	m.setWhy(&failure{Code: codeUnsupported, Text: "tokens need Linux: signers are handed over by unix sockets"})
	<-ctx.Done()
}

type keeper struct{}

func (*member) addKey(KeyConfig) {}
