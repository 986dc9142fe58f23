#!/bin/sh
# Makes every CSR of this folder anew. $KEY is the key of the moment; it is thrown away.
set -eu
KEY=$(mktemp)
trap 'rm -f "$KEY" "$KEY.cnf"' EXIT

ec() { openssl genpkey -quiet -algorithm EC -pkeyopt "ec_paramgen_curve:$1" -out "$KEY"; }
rsa() { openssl genpkey -quiet -algorithm RSA -pkeyopt "rsa_keygen_bits:$1" -out "$KEY"; }
csr() { # csr NAME [options of openssl req]
	name=$1
	shift
	openssl req -new -key "$KEY" -outform DER -out "$name.der" "$@"
}
csr_conf() { # csr_conf NAME: with the configuration on stdin
	cat >"$KEY.cnf"
	csr "$1" -config "$KEY.cnf"
}
CN=/CN=DEMO-000001
HEX=b0c4b0c4b0c4b0c4b0c4b0c4b0c4b0c4b0c4b0c4b0c4b0c4b0c4b0c4b0c4b0c4

ec P-256
csr ok-p256 -subj $CN
csr ok-p256-sha512 -subj $CN -sha512
csr ok-p256-no-subject -subj /
csr ok-p256-multivalued-rdn -multivalue-rdn -subj /O=Demo+OU=Line/CN=DEMO-000001+serialNumber=7
csr ok-p256-utf8 -utf8 -subj '/O=Demo Gerätebau/CN=DEMO-000001'
csr ok-p256-many-fields -subj '/C=DE/ST=Bayern/L=Passau/O=Demo/OU=A/OU=B/CN=DEMO-000001/emailAddress=a@example.com/serialNumber=1/dnQualifier=x/UID=u/DC=example'
csr ok-p256-extensions-asked -subj $CN -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign' -addext 'subjectAltName=DNS:other.example.com,IP:10.0.0.1'
csr ok-p256-unknown-extension -subj $CN -addext 1.2.3.4=DER:0500
csr code-common-name -subj /CN=$HEX
csr code-description-0x -subj "/CN=DEMO-000001/description=0x$HEX" # a common name holds 64 characters
csr code-organization -subj "/O=$HEX/CN=DEMO-000001"
csr code-second-rdn-value -multivalue-rdn -subj "/CN=DEMO-000001+OU=$HEX"
csr malformed-two-common-names -subj /CN=DEMO-000001/CN=DEMO-000002
csr signature-sha1 -subj $CN -sha1
csr_conf ok-p256-challenge-password <<C
[req]
prompt = no
distinguished_name = dn
attributes = at
[dn]
CN = DEMO-000001
[at]
challengePassword = twelve-or-so
unstructuredName = line 1
C
for mask in default nombstr pkix MASK:0x800 MASK:0x4; do
	case $mask in
	MASK:0x800) name=ok-p256-bmpstring ;;
	MASK:0x4) name=ok-p256-teletexstring ;;
	*) name=ok-p256-string-mask-$mask ;;
	esac
	csr_conf $name <<C
[req]
prompt = no
string_mask = $mask
distinguished_name = dn
[dn]
CN = DEMO_000001
C
done
csr_conf code-bmpstring <<C
[req]
prompt = no
string_mask = MASK:0x800
distinguished_name = dn
[dn]
O = $HEX
CN = DEMO-000001
C
csr_conf code-teletexstring <<C
[req]
prompt = no
string_mask = MASK:0x4
distinguished_name = dn
[dn]
O = $HEX
CN = DEMO-000001
C

ec P-384
csr ok-p384 -subj $CN -sha384
rsa 2048
csr ok-rsa2048 -subj $CN
csr ok-rsa2048-pss -subj $CN -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest
csr signature-rsa2048-md5 -subj $CN -md5
rsa 3072
csr ok-rsa3072 -subj $CN
rsa 4096
csr ok-rsa4096 -subj $CN -sha512

rsa 512
csr weak-rsa512 -subj $CN
rsa 1024
csr weak-rsa1024 -subj $CN
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3 -out "$KEY"
csr weak-rsa2048-exponent-3 -subj $CN
openssl genpkey -quiet -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out "$KEY"
csr weak-rsa-pss-key -subj $CN
rsa 5120
csr weak-rsa5120 -subj $CN
for curve in P-224 P-521 secp256k1 brainpoolP256r1; do
	ec $curve
	csr weak-$curve -subj $CN
done
for algorithm in ED25519 ED448; do
	openssl genpkey -quiet -algorithm $algorithm -out "$KEY"
	csr weak-$algorithm -subj $CN
done
openssl genpkey -quiet -genparam -algorithm DSA -pkeyopt dsa_paramgen_bits:2048 -out "$KEY.cnf"
openssl genpkey -quiet -paramfile "$KEY.cnf" -out "$KEY"
csr weak-dsa -subj $CN
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit -out "$KEY"
csr weak-p256-explicit-parameters -subj $CN
openssl ecparam -name prime256v1 -genkey -noout | openssl ec -conv_form compressed -out "$KEY" 2>/dev/null
csr weak-p256-compressed-point -subj $CN
