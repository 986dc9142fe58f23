package hsm

// InService lists the signer processes that have logged in. Tests kill those alone: a SoftHSM that is killed in the middle of a login, while it rewrites its
// token's file, leaves a token that nobody finds again.
func (t *Token) InService() (pids []int) {
	for _, m := range t.members {
		m.mu.Lock()
		for pid := range m.lanes {
			pids = append(pids, pid)
		}
		m.mu.Unlock()
	}
	return pids
}
