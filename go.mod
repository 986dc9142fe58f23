module github.com/certmill/certmill

go 1.26.0

require (
	github.com/ThalesIgnite/crypto11 v1.2.5 // signs in PKCS#11 tokens, in signer processes only
	github.com/aws/aws-sdk-go-v2 v1.48.0 // AWS, in registrar/awsapi only
	github.com/aws/aws-sdk-go-v2/config v1.33.16 // credentials and endpoints as every AWS tool finds them
	github.com/aws/aws-sdk-go-v2/credentials v1.20.16 // assumed roles, and the simulator's fixed keys
	github.com/aws/aws-sdk-go-v2/service/iam v1.64.9 // the role of JITP templates
	github.com/aws/aws-sdk-go-v2/service/iot v1.75.0 // CA certificates, templates, rules, policies
	github.com/aws/aws-sdk-go-v2/service/lambda v1.114.3 // the permission of JITR's rule
	github.com/aws/aws-sdk-go-v2/service/sts v1.51.9 // whose account is this, and roles in others
	github.com/aws/smithy-go v1.28.9 // the SDK's errors
	github.com/eclipse/paho.mqtt.golang v1.5.1 // a device's first connect
	github.com/goccy/go-yaml v1.19.2 // YAML, strict, with positions in its errors
	github.com/hanwen/go-fuse/v2 v2.12.1 // tests: a disk that records, fails and loses power
	github.com/miekg/pkcs11 v1.1.2 // under crypto11: its error codes, and what crypto11 cannot do
	github.com/mochi-mqtt/server/v2 v2.7.9 // the MQTT side of the simulator
	github.com/prometheus/client_golang v1.25.0 // /metrics
	github.com/rogpeppe/go-internal v1.16.0 // testscript: commands tested as people type them
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // tests: answers against openapi.yaml (3.1 is JSON Schema 2020-12)
	github.com/spf13/cobra v1.10.2 // commands, help, completion
	github.com/vbauerster/mpb/v8 v8.16.2 // progress bars
	github.com/zmap/zlint/v3 v3.7.3 // a second opinion on every profile
	go.etcd.io/bbolt v1.5.0 // the ledger's store, and the simulator's
	golang.org/x/crypto v0.57.0 // cryptobyte: our own encoder of TBS
	golang.org/x/mod v0.42.0 // sumdb/tlog and sumdb/note: the Merkle log
	golang.org/x/sys v0.49.0 // prctl, peer credentials, pseudo-terminals
	golang.org/x/term v0.47.0 // is it a terminal; PIN prompts
	golang.org/x/time v0.16.0 // rate limits
	pgregory.net/rapid v1.3.0 // tests: models of issuer and ledger
	rsc.io/qr v0.2.0 // QR codes on labels
	software.sslmate.com/src/go-pkcs12 v0.7.4 // PKCS#12 as systems of today read it
)

require (
	github.com/aws/aws-lambda-go v1.55.1 // what certmill-lambda runs under
	github.com/aws/aws-sdk-go-v2/feature/ec2/imds v1.20.8 // turned off where a simulator is asked
	github.com/aws/aws-sdk-go-v2/service/dynamodb v1.73.2 // the JITR allow-list
	github.com/spf13/pflag v1.0.10 // cobra's flags, where a function adds several
	github.com/zmap/zcrypto v0.0.0-20260906180147-3ed30b1e9340 // zlint's parser
)

require (
	github.com/VividCortex/ewma v1.2.0 // indirect
	github.com/acarl005/stripansi v0.0.0-20180116102854-5a71ef0e047d // indirect
	github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream v1.7.26 // indirect
	github.com/aws/aws-sdk-go-v2/internal/configsources v1.5.11 // indirect
	github.com/aws/aws-sdk-go-v2/internal/endpoints/v2 v2.8.11 // indirect
	github.com/aws/aws-sdk-go-v2/internal/v4a v1.5.11 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/accept-encoding v1.13.24 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/endpoint-discovery v1.13.11 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/presigned-url v1.14.11 // indirect
	github.com/aws/aws-sdk-go-v2/service/signin v1.12.4 // indirect
	github.com/aws/aws-sdk-go-v2/service/sso v1.39.4 // indirect
	github.com/aws/aws-sdk-go-v2/service/ssooidc v1.44.4 // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/clipperhouse/uax29/v2 v2.7.0 // indirect
	github.com/gorilla/websocket v1.5.3 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/mattn/go-runewidth v0.0.30 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/pelletier/go-toml v1.9.5 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	github.com/rs/xid v1.4.0 // indirect
	github.com/thales-e-security/pool v0.0.2 // indirect
	github.com/vbauerster/cupwriter v0.0.5 // indirect
	github.com/weppos/publicsuffix-go v0.50.4-0.20260821095816-b0fdb5c2d345 // indirect
	golang.org/x/net v0.59.0 // indirect
	golang.org/x/sync v0.23.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
