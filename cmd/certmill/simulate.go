package main

import "github.com/spf13/cobra"

func newSimulateCommand(e *env) *cobra.Command {
	return &cobra.Command{Use: "simulate", Short: "Stand-ins for what is outside"}
}
