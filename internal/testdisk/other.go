//go:build !linux

package testdisk

// ServeIfAsked does nothing where there is no FUSE.
func ServeIfAsked() {}
