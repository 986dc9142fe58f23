package main

import (
	"github.com/spf13/cobra"

	"github.com/certmill/certmill/registrar"
)

func newAWSStatusCommand(e *env) *cobra.Command {
	var fleet string
	c := &cobra.Command{
		Use:   "status [-f fleet.yaml]",
		Short: "How every CA stands in every account and region",
		Long: "Looks at AWS, reading only, and prints a line for each CA, account and region of the fleet file. A ? stands for what an answer did\n" +
			"not tell, none for a registration that is not there.",
		Args: cobra.NoArgs,
	}
	addFleetFlag(c.Flags(), &fleet)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := e.checkOutput(); err != nil {
			return err
		}
		f, err := e.fleet(fleet)
		if err != nil {
			return err
		}
		return interrupted(c.Context(), e.withRegistrar(c.Context(), f, func(r *registrar.Registrar) error {
			rows, err := r.Status(c.Context())
			if err != nil {
				return err
			}
			return e.printStatus(rows)
		}))
	}
	return c
}

func (e *env) printStatus(rows []registrar.Row) error {
	err := printList(e, rows, "CA ACCOUNT REGION MODE STATUS AUTO-REGISTRATION PROVISIONING IS AWS-ID", func(r registrar.Row) []string {
		return []string{r.CA, r.Account, r.Region, r.Mode, r.Status, r.AutoRegistration, r.Provisioning, r.ProvisioningState, r.CACertificateID}
	})
	if err != nil {
		return err
	}
	unreachable := 0
	for _, r := range rows {
		if r.Problem != "" {
			unreachable++
			e.talk("%s: %s", r.Place, r.Problem)
		}
	}
	if unreachable > 0 {
		return fail(exitPartly, "check endpoint, credentials and role", "%d registrations could not be looked at", unreachable)
	}
	return nil
}
