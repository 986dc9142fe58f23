package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// runAtTerminal runs cmd on a pseudo-terminal of its own and answers each prompt (a text that ends in ": ") with the next answer.
func runAtTerminal(cmd *exec.Cmd, answers ...string) error {
	master, terminal, err := openTerminal()
	if err != nil {
		return fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	defer master.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = cmd.Start()
	terminal.Close()
	if err != nil {
		return err
	}
	said := answerPrompts(master, answers)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(said))
	}
	return nil
}

// answerPrompts reads until the other side closes the terminal and returns what it said. Prompts turn the echo off before they ask, so
// the answers are not in it.
func answerPrompts(master io.ReadWriter, answers []string) (said []byte) {
	r := bufio.NewReader(master)
	for {
		c, err := r.ReadByte()
		if err != nil { // EIO: the process has closed its end
			return said
		}
		said = append(said, c)
		if len(answers) > 0 && bytes.HasSuffix(said, []byte(": ")) {
			fmt.Fprintf(master, "%s\n", answers[0])
			answers = answers[1:]
		}
	}
}

// openTerminal returns both ends of a new pseudo-terminal (pts(4)).
func openTerminal() (master, terminal *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0); err != nil {
		return nil, nil, err
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, terminal, nil
}
