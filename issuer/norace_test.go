//go:build !race

package issuer

// raceDetector: see race_test.go.
const raceDetector = false
