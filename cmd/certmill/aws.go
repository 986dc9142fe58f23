package main

import "github.com/spf13/cobra"

func newAWSCommand(e *env) *cobra.Command {
	return &cobra.Command{Use: "aws", Short: "AWS IoT accounts and regions brought to the desired state"}
}
