package testdisk

import "math/rand/v2"

// keeper says what a power failure keeps of what was not synced.
type keeper interface {
	names(n int) int                 // how many of n changes of names
	keep(c *content, i int, s *Step) // puts what it keeps of the i-th step into the file
}

// everything and nothing are the ends of what is possible.
type (
	everything struct{}
	nothing    struct{}
)

func (everything) names(n int) int                 { return n }
func (everything) keep(c *content, _ int, s *Step) { s.apply(c) }
func (nothing) names(int) int                      { return 0 }
func (nothing) keep(*content, int, *Step)          {}

// first keeps the first changes of names, whatever another keeper keeps of the data.
type first struct {
	keeper
	n int
}

func (f first) names(int) int { return f.n }

// pieces keeps a write's blocks one by one.
type pieces struct {
	random *rand.Rand
	block  int64   // 4096 or 512
	share  float64 // how likely a block is kept
	grow   bool    // a file got its length, though not its data
	early  int     // changes of names
}

func (p *pieces) names(n int) int { return min(n, p.early) }

func (p *pieces) keep(c *content, _ int, s *Step) {
	if s.Kind == Truncate {
		if p.random.Float64() < p.share {
			s.apply(c)
		}
		return
	}
	for from := int64(0); from < int64(len(s.Data)); {
		to := min(int64(len(s.Data)), (s.Offset+from)/p.block*p.block+p.block-s.Offset)
		if p.random.Float64() < p.share {
			c.write(s.Offset+from, s.Data[from:to])
		} else if p.grow {
			c.size = max(c.size, s.Offset+to)
		}
		from = to
	}
}

// one keeps a single step, or all but one.
type one struct {
	step  int
	but   bool
	early int
}

func (o one) names(n int) int { return min(n, o.early) }

func (o one) keep(c *content, i int, s *Step) {
	if (i == o.step) != o.but {
		s.apply(c)
	}
}

// torn keeps everything, and of the last step its first octets or its last ones.
type torn struct {
	last, octets int
	end          bool
}

func (t torn) names(n int) int { return n }

func (t torn) keep(c *content, i int, s *Step) {
	switch at := min(t.octets, len(s.Data)); {
	case i != t.last || s.Kind != Write:
		s.apply(c)
	case t.end:
		c.write(s.Offset+int64(at), s.Data[at:])
	default:
		c.write(s.Offset, s.Data[:at])
	}
}
