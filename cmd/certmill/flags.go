package main

import "github.com/spf13/pflag"

// addTokenFlags are the flags of init and quickstart that name a token which is there already.
func addTokenFlags(f *pflag.FlagSet, t *tokenChoice, env *[]string) {
	f.StringVar(&t.Module, "module", "", "PKCS#11 module (`FILE.so`) of a token that is there")
	f.StringVar(&t.Token, "token", "", "its `LABEL`")
	f.StringVar(&t.PINFile, "pin-file", "", "`FILE` with its user PIN, mode 0600")
	f.StringArrayVar(env, "token-env", nil, "`K=V` in the environment of the signer processes; may be repeated")
}
