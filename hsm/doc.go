// Package hsm keeps private keys where they cannot leave, and signs with them in processes of their own.
//
// The daemon loads no PKCS#11 module and holds no PIN. It starts a keeper process, which reads the PIN and starts signer processes, one after
// another; each signer owns the module, a login and one lane: a socket to the daemon that the keeper passes on. Over a
// lane go to-be-signed bytes and a kind, never digests: the signer judges them again with the check it was started with, hashes and signs. The
// daemon verifies every signature with the public key of the CA certificate before it gives it out.
//
// A signature is never "failed" while somebody waits for it: a signer whose call is past its deadline, whose answer does not verify or
// whose socket breaks is taken out of service and replaced, and its share goes to another. Signing the same bytes twice does no harm.
//
//	token.go      Token: Open, Key, Generate, Public, Use, Close
//	key.go        Key: signs batches; verifies
//	share.go      a piece of a batch on its way through the signers
//	lane.go       the daemon's end of one signer
//	supervise.go  keepers and what they report
//	keeper.go     the process that holds the PIN          control.go  what processes tell each other
//	signer.go     the process that holds the login        wire.go     what travels on a lane
//	pkcs11.go     the only file that speaks PKCS#11       protect_linux.go  no core files, no debuggers
package hsm
