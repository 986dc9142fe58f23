// Package awsim stands in for AWS where certmill is tried, tested and demonstrated: several accounts in several regions with
// STS, IAM, the control plane of AWS IoT Core, and the MQTT endpoint at which devices connect for the first time. An
// unmodified AWS CLI, SDK or MQTT client finds nothing odd. Rules (CA-07, M-01 …) are those of certmill's collection; where
// nobody has seen what AWS does, awsim takes the position that hurts a registrar most, or has a switch.
//
// It knows nothing of the registrar, so that they cannot share a mistake; templates and the JITR handler are the real ones.
//
// # How it is built
//
// One HTTP endpoint serves all services: the SigV4 scope in Authorization names service and region, the access key the
// account (auth.go). Each operation is a row in a table (iot.go, sts.go, iam.go, lambda.go, dynamodb.go) and runs in one
// transaction of the store (store.go), so that state survives kill -9. The MQTT side (mqtt.go) finishes the TLS handshake,
// finds account and region (SNI, or the certificate), and hands the connection to the broker of that account and region;
// what becomes of it is one decision (connect.go), made on the CONNECT packet.
//
// # What is not simulated
//
//   - Throttles (W-06, section 9 of the rules) but for the registration rate DC-18, which is off unless asked for; IAM
//     rights of callers (W-04, CA-59): who can sign may do everything in its account; eventual consistency (CA-82).
//   - AWS-signed certificates and CSRs (DC-10, DC-11), transfers (DC-39), thing types, thing groups and billing groups (PT-24:
//     a template that names one fails), RegisterThing, fleet provisioning and bulk registration (rules sections 7 and 8).
//   - MQTT refusals by code (M-03: connections are closed), the connect rate M-15, cutting devices off after their
//     certificate was deactivated (DC-31), session expiry, HTTPS and WebSocket.
//   - Rules engine: only the certificates/registered event runs rules; of SQL only FROM and the WHERE of rule R-01 are
//     understood, of actions only Lambda; a failing function is not retried, the device's next connect heals it.
//   - Lambda: every function that a rule names is certmill's JITR handler, whatever its code; its environment (TABLE, POLICY,
//     GRACE) is that of CreateFunction or UpdateFunctionConfiguration, with the handler's defaults where there was none.
//   - DynamoDB: every table is an allow-list with the key certificate_id; of expressions, what such a list needs; no streams.
//   - Metrics, CloudWatch, CloudTrail (P-05, P-06): the log says instead why a first connect failed.
package awsim
