package hsm

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// protect keeps the PIN out of core files and away from debuggers of the same user.
func protect() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("not dumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("no core files: %w", err)
	}
	return nil
}

// childAttributes has a child end with its parent, whatever ends that, and keeps a terminal's Ctrl-C away from it. It is asked, not killed: a SoftHSM that is
// killed in the middle of a login, which rewrites its token's file, leaves a token that nobody finds again.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}

// endWithParent lets a process finish what it has begun when it is asked to end: it sees its sockets close. One that is stuck ends after the limit.
func endWithParent(limit time.Duration) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	go func() {
		<-asked
		<-time.After(limit)
		os.Exit(1)
	}()
}
