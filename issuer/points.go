package issuer

// Crash points: the names of every moment around a durable step at which a crash would leave a different state behind. A test stops the
// owner at each of them and starts anew; docs/issuance.md says what is true there.
const (
	pointGathered  = "gathered"  // taken from the pool or the signers; nothing of it is recorded
	pointRecorded  = "recorded"  // appended, not committed
	pointCommitted = "committed" // on disk; nobody knows
	pointAnswered  = "answered"  // known to those who waited; nothing new was sent to a signer
	pointSending   = "sending"   // an intent is on disk; its signer has not heard of it
	pointSigned    = "signed"    // a signature is back; it is nowhere on disk
)

// pass marks a point for what is in the batch: the same moment leaves another state behind for an intent than for a signature.
func (o *owner) pass(b batch, point string) {
	if len(b.changes) > 0 {
		o.at("intent " + point)
	}
	if len(b.signed) > 0 {
		o.at("signature " + point)
	}
}
