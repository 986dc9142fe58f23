package registrar

import (
	"context"
	"sync"

	"golang.org/x/time/rate"
)

// budget keeps every operation below AWS's rate, which counts per account and region (rules section 9, K-11).
type budget struct {
	mu       sync.Mutex // guards limiters
	limiters map[budgetKey]*rate.Limiter
}

type budgetKey struct{ account, region, operation string }

func newBudget() *budget { return &budget{limiters: make(map[budgetKey]*rate.Limiter)} }

// perSecond stays below the quota, which other tools of the account share: 5 for topic rules, 10 or more for the rest.
func perSecond(operation string) rate.Limit {
	switch operation {
	case "CreateTopicRule", "ReplaceTopicRule":
		return 4
	}
	return 8
}

func (b *budget) wait(ctx context.Context, account, region, operation string) error {
	key := budgetKey{account, region, operation}
	b.mu.Lock()
	l := b.limiters[key]
	if l == nil {
		limit := perSecond(operation)
		l = rate.NewLimiter(limit, int(limit))
		b.limiters[key] = l
	}
	b.mu.Unlock()
	return l.Wait(ctx)
}
