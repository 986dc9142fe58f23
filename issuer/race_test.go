//go:build race

package issuer

// raceDetector makes everything ten times slower.
const raceDetector = true
