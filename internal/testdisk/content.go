package testdisk

import "maps"

const pageSize = 4096

// page is never changed once it stands in a content.
type page [pageSize]byte

// content is a file's octets. Pages that are missing are zeros.
type content struct {
	size  int64
	pages map[int64]*page
}

func newContent() *content { return &content{pages: make(map[int64]*page)} }

func (c *content) clone() *content { return &content{c.size, maps.Clone(c.pages)} }

func (c *content) write(off int64, data []byte) {
	c.size = max(c.size, off+int64(len(data)))
	for len(data) > 0 {
		n, at := off/pageSize, int(off%pageSize)
		p := new(page)
		if old := c.pages[n]; old != nil {
			*p = *old
		}
		done := copy(p[at:], data)
		c.pages[n] = p
		off, data = off+int64(done), data[done:]
	}
}

func (c *content) truncate(size int64) {
	if size < c.size {
		for n := range c.pages {
			if n*pageSize >= size {
				delete(c.pages, n)
			}
		}
		if rest := size % pageSize; rest != 0 && c.pages[size/pageSize] != nil {
			p := new(page)
			copy(p[:rest], c.pages[size/pageSize][:rest])
			c.pages[size/pageSize] = p
		}
	}
	c.size = size
}

// read fills b from off and says how much there was.
func (c *content) read(b []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	b = b[:min(int64(len(b)), c.size-off)]
	clear(b)
	for done := 0; done < len(b); {
		n, at := (off+int64(done))/pageSize, int((off+int64(done))%pageSize)
		step := min(pageSize-at, len(b)-done)
		if p := c.pages[n]; p != nil {
			copy(b[done:done+step], p[at:])
		}
		done += step
	}
	return len(b)
}
