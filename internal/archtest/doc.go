// Package archtest holds the import rules of the module as two tables in a test: who may import whom, and where each third-party
// library may appear. A new edge or a new library is a line in a table, with its reason, or a failing test.
package archtest
