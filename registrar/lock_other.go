//go:build !unix

package registrar

import "os"

// lock does nothing where there is no flock: two applies at once are then kept apart only by looking before they act.
func lock(*os.File) error { return nil }
