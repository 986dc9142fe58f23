package main

import (
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/registrar/awsim"
)

func newSimulateCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "simulate", Short: "Stand-ins for what is outside"}
	c.AddCommand(newSimulateAWSCommand(e))
	return c
}

func newSimulateAWSCommand(e *env) *cobra.Command {
	var cfg awsim.Config
	c := &cobra.Command{
		Use:   "aws",
		Short: "AWS as far as certificates go: accounts, regions, STS, IAM, AWS IoT, and MQTT first connects",
		Long: "Stands in for AWS on this machine. It prints one JSON line when it is ready,\n" +
			"  {\"endpoint\":\"http://…\",\"mqtt\":\"127.0.0.1:…\",\"ca_file\":\"S/ca.pem\"}\n" +
			"and runs until it is interrupted. Its state stays in --dir. Every account and region exists unless --account or --region list them; an\n" +
			"access key of 12 digits is that account. Devices find it by SNI: an endpoint name that describe-endpoint gave, at the MQTT address.",
		Example: "  certmill simulate aws --dir sim &\n" +
			"  AWS_ACCESS_KEY_ID=111111111111 AWS_SECRET_ACCESS_KEY=x aws --region eu-central-1 --endpoint-url http://127.0.0.1:PORT iot list-ca-certificates\n" +
			"  mosquitto_pub -h PREFIX-ats.iot.eu-central-1.amazonaws.com -p PORT --cafile sim/ca.pem --cert chain.pem --key key.pem -i DEVICE -t device/DEVICE/hello -m hi",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg.Log = e.logger()
			sim, err := awsim.Start(c.Context(), cfg)
			if errors.Is(err, awsim.ErrConfig) {
				return fail(exitUsage, "certmill simulate aws --help", "%w", err)
			}
			if err != nil {
				return fail(exitConfig, "is another simulator running on this folder or port?", "%w", err)
			}
			info := simulatorInfo{Endpoint: sim.Endpoint(), MQTT: sim.MQTTAddr(), CAFile: sim.CAFile()}
			if err := json.NewEncoder(e.stdout).Encode(info); err != nil {
				sim.Close()
				return err
			}
			return sim.Wait()
		},
	}
	f := c.Flags()
	f.StringVar(&cfg.Listen, "listen", "", "`ADDRESS` of the HTTP endpoint (default: a free port on 127.0.0.1)")
	f.StringVar(&cfg.MQTT, "mqtt", "", "`ADDRESS` of the MQTT listener (default: a free port on 127.0.0.1)")
	f.StringVar(&cfg.Dir, "dir", "awsim", "`folder` of its state")
	f.StringSliceVar(&cfg.Accounts, "account", nil, "`IDs` of the accounts that exist (default: all)")
	f.StringSliceVar(&cfg.Regions, "region", nil, "`names` of the regions that exist (default: all)")
	f.StringVar(&cfg.EndpointSuffix, "endpoint-suffix", "", "`NAME` in place of amazonaws.com in the endpoints, for clients whose SNI is their host name")
	return c
}
