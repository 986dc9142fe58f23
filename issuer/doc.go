// Package issuer turns production orders into certificates, each exactly once.
package issuer
