//go:build !unix

package main

// ownsLedger has no uid to compare on this system: file modes alone decide.
func ownsLedger(*Config) error { return nil }

func noCoreFiles() error { return nil }

// ownsState likewise.
func ownsState(*Config) error { return nil }
