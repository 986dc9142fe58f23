//go:build race

package main

// underRace makes long tests shorter: the race detector takes ten times as long and says the same of a tenth.
const underRace = true
