package testdisk

import (
	"fmt"
	"hash/maphash"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Image is what stands on a disk: files by name.
type Image struct{ files map[string]*content }

// Names lists its files.
func (i *Image) Names() []string { return slices.Sorted(maps.Keys(i.files)) }

// WriteTo puts the image into an empty folder, with mode 0600. Zeros stay holes.
func (i *Image) WriteTo(dir string) error {
	for name, c := range i.files {
		if err := c.writeFile(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("write image: %w", err)
		}
	}
	return nil
}

func (c *content) writeFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(c.size); err != nil {
		return err
	}
	for n, p := range c.pages {
		if n*pageSize >= c.size {
			continue
		}
		if _, err := f.WriteAt(p[:min(pageSize, c.size-n*pageSize)], n*pageSize); err != nil {
			return err
		}
	}
	return nil
}

// hasher knows the hashes of pages that it met before.
type hasher struct {
	seed  maphash.Seed
	pages map[*page]uint64
}

func newHasher() *hasher { return &hasher{maphash.MakeSeed(), make(map[*page]uint64)} }

func (h *hasher) page(p *page) uint64 {
	sum, ok := h.pages[p]
	if !ok {
		if *p != (page{}) {
			sum = maphash.Bytes(h.seed, p[:])
		}
		if len(h.pages) > 1<<16 {
			clear(h.pages)
		}
		h.pages[p] = sum
	}
	return sum
}

// image is equal for images that hold the same.
func (h *hasher) image(i *Image) (sum uint64) {
	type row struct {
		name string
		n    int64
		hash uint64
	}
	for name, c := range i.files {
		sum ^= maphash.Comparable(h.seed, row{name, -1, uint64(c.size)})
		for n, p := range c.pages {
			if hash := h.page(p); hash != 0 && n*pageSize < c.size {
				sum ^= maphash.Comparable(h.seed, row{name, n, hash})
			}
		}
	}
	return sum
}
