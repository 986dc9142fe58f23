// Package jitr decides what becomes of a certificate that AWS IoT has just registered because a device connected with it for
// the first time (just-in-time registration). It is what the Lambda function of cmd/certmill-lambda does, and what the
// simulator runs in its place.
//
// A certificate waits in PENDING_ACTIVATION and AWS publishes an [Event], again at each connect. [Handler.Handle] looks the
// certificate up in the allow-list, which the order's manifest fills, and then:
//
//   - on the list: thing, thing's principal, policy, and last of all ACTIVE, so that no active certificate lacks a policy;
//     then the row is marked used;
//   - on the list as denied: REVOKED, which is final;
//   - not on the list: it stays PENDING for the grace time, so that each reconnect asks again, and is then made INACTIVE
//     with an alarm in the log;
//   - no longer pending: nothing. Events come late, twice and out of order (J-10, R-10).
//
// A certificate that was made INACTIVE sends no more events: [Handler.RowArrived] activates it when its row comes after all.
//
// Each call is safe to repeat, and so is the whole: a handler that was interrupted after any call is finished by the next
// event, and two handlers that race end alike.
package jitr
