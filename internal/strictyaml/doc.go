// Package strictyaml reads the YAML files that people write: certmill.yaml, fleet.yaml, profiles, ceremonies.
//
// A key that the program does not know is an error, never ignored: a typing error in a security setting must not
// silently mean the default. The error names the line, the key and the known key that looks most like it.
package strictyaml
