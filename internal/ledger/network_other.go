//go:build !linux

package ledger

// NetworkFS knows nothing here.
func NetworkFS(string) (kind string, is bool) { return "", false }
