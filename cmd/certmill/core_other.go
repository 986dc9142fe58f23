//go:build !unix

package main

// noCoreFiles has no limit to set on this system.
func noCoreFiles() {}
