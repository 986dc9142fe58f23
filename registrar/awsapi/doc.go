// Package awsapi is the only door to AWS: it holds the SDK, and nothing of the SDK stands in its exported names.
//
// A [Caller] is whoever runs the command, with the credentials of its environment or with explicit [Keys]. [Caller.Connect]
// opens a [Target], one account in one region, through the [Access] that the fleet file states. A Target has one method for each
// call that certmill makes, with small types of our own, a file for each service (and for each kind of resource of AWS IoT).
//
// Every error is an [*Error] that says which of a few things happened ([KindOf]). Two of them matter most. [Unknown]: the
// call may or may not have had its effect, so look before you repeat it (rule K-04); the SDK therefore repeats reading calls
// by itself, and writing ones only when they were throttled. [Unsupported]: the endpoint does not have the call at all, as
// emulators do; nothing was done, and nothing is known.
//
// The files lambda_*.go are for the handlers that run inside AWS.
package awsapi
