package testdisk

import (
	"fmt"
	"math/rand/v2"
)

// Cut is one thing that a power failure may leave.
type Cut struct {
	At     int // steps done before it
	Marks  int // of them notes, in their order: what had been promised by then
	How    string
	moment *moment
	keeper func() keeper
}

// Image builds what stands on the disk.
func (c *Cut) Image() *Image { return c.moment.image(c.keeper()) }

func (c *Cut) String() string { return fmt.Sprintf("power cut after step %d, %s", c.At, c.How) }

// Count says what Cuts looked at.
type Count struct {
	Steps, Moments int            // moments in which something was not synced
	Built, Equal   int            // states built; those that equal an earlier one
	By             map[string]int // distinct states by how they came about
}

// Cuts lists up to n different things that power failures may leave. First come, for every moment, everything and nothing of what was not synced, with every
// prefix of the changes of names; the rest is drawn at random, the same for the same seed. Where two moments may leave the same, what had been promised by the later one counts.
func (r *Recording) Cuts(n int, seed uint64) ([]Cut, Count) { return r.CutsFrom(0, n, seed) }

// CutsFrom is Cuts for power failures after a step.
func (r *Recording) CutsFrom(step, n int, seed uint64) ([]Cut, Count) {
	l := &lister{hasher: newHasher(), known: make(map[uint64]int), count: Count{Steps: len(r.Steps), By: make(map[string]int)}}
	var open []Cut // moments that can leave more than one thing
	for at, m := range r.moments() {
		if at < step {
			continue
		}
		for names := range len(m.renames) + 1 {
			l.add(Cut{at, m.marks, "all data", m, always(first{everything{}, names})})
			l.add(Cut{at, m.marks, "no data", m, always(first{nothing{}, names})})
		}
		if len(m.data) > 0 {
			open = append(open, Cut{At: at, Marks: m.marks, moment: m})
		}
	}
	l.count.Moments = len(open)
	random := rand.New(rand.NewPCG(seed, 1))
	for tries := 0; len(l.cuts) < n && tries < 20*n && len(open) > 0; tries++ {
		l.add(draw(random, open[random.IntN(len(open))]))
	}
	return l.cuts[:min(n, len(l.cuts))], l.count
}

func always(k keeper) func() keeper { return func() keeper { return k } }

// draw completes a cut.
func draw(random *rand.Rand, c Cut) Cut {
	data, names := c.moment.data, random.IntN(len(c.moment.renames)+1)
	last := len(data) - 1
	set := func(how string, k keeper) Cut {
		c.How, c.keeper = how, always(k)
		return c
	}
	switch kind := random.IntN(12); kind {
	case 0:
		return set("one write missing", one{random.IntN(len(data)), true, names})
	case 1:
		return set("one write alone", one{random.IntN(len(data)), false, names})
	case 2:
		return set("last write torn at a sector", torn{last, random.IntN(len(data[last].Data)/512+1) * 512, random.IntN(2) == 0})
	case 3:
		return set("last write torn at an octet", torn{last, random.IntN(len(data[last].Data) + 1), random.IntN(2) == 0})
	default:
		block, how := int64(4096), "blocks of 4096 missing"
		if kind >= 8 {
			block, how = 512, "blocks of 512 missing"
		}
		seed, share, grow := random.Uint64(), []float64{0.1, 0.5, 0.9}[random.IntN(3)], random.IntN(2) == 0
		c.How = how
		c.keeper = func() keeper {
			return &pieces{rand.New(rand.NewPCG(seed, 2)), block, share, grow, names}
		}
		return c
	}
}

// lister keeps states that differ.
type lister struct {
	*hasher
	cuts  []Cut
	known map[uint64]int // place in cuts by hash
	count Count
}

func (l *lister) add(c Cut) {
	l.count.Built++
	sum := l.image(c.Image())
	if at, known := l.known[sum]; known {
		l.count.Equal++
		l.cuts[at].Marks = max(l.cuts[at].Marks, c.Marks)
		return
	}
	l.known[sum] = len(l.cuts)
	l.cuts = append(l.cuts, c)
	l.count.By[c.How]++
}
