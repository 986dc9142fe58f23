//go:build unix

package main

import "syscall"

// noCoreFiles keeps what is in this process's memory, and in that of those it starts, off the disk. Where it fails, keeper and signers refuse to start by
// themselves (hsm.protect).
func noCoreFiles() {
	syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}
