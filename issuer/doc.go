// Package issuer turns production orders into certificates, each exactly once.
//
// A request becomes a certificate in two commits, and the token signs between them:
//
//	Submit      caller's goroutine   CSR parsed, station, order and device found; join the pool
//	intent      owner, commit 1      number, serial, exact TBS; device and key claimed, order debited
//	signature   signer's goroutine   the TBS that is on disk, and no other
//	            owner, commit 2      the signature; the first one stored is the certificate's for ever
//	answer      caller's goroutine   certificate put together from TBS and signature
//
// One owner, the goroutine in Run, makes every commit. It gathers whatever waits (new requests, signatures of the batch before, acts of people)
// into one transaction, and hands what it recorded to the signers while it gathers the next. No timer runs when nothing waits.
//
// An entry is found before it is made: a request that was made before gets the same bytes, whatever has become of its order, and debits nothing.
// A crash leaves intents without a signature at most; Run signs them, the same TBS, before anything else. docs/issuance.md has the cycle in numbered
// steps, with what is true if we die at each, and the table of what a CA key may sign and by whose authority.
//
// The ledger is the truth. Orders, stations, freezes and CAs are entries in it, and the newest of each is kept in memory (books), read by start-up
// and by the live path through the same function, so that no request asks the disk what is allowed.
//
// A refusal is an answer; an error of the store is the end: every waiter gets ErrStopped, Run returns, and the process must start anew.
package issuer
