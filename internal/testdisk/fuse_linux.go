package testdisk

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// mount puts a model into the tree of files. The list of mounts calls it fuse.<name>.
func mount(dir, name string, m *model) (*fuse.Server, error) {
	return fs.Mount(dir, &folder{m: m}, &fs.Options{MountOptions: fuse.MountOptions{
		FsName: name, Name: name, DirectMount: true, DisableXAttrs: true, MaxWrite: 1 << 20,
	}})
}

// folder is the only one of a disk.
type folder struct {
	fs.Inode
	m *model
}

var _ = (interface {
	fs.NodeLookuper
	fs.NodeCreater
	fs.NodeUnlinker
	fs.NodeRenamer
	fs.NodeFsyncer
})(&folder{})

// Lookup asks the model: go-fuse's own tree still knew a file that had been removed while it was open.
func (d *folder) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	f := d.m.named(name)
	if f == nil {
		return nil, syscall.ENOENT
	}
	return d.inode(ctx, f, out), 0
}

// inode is the one and only of a file.
func (d *folder) inode(ctx context.Context, f *file, out *fuse.EntryOut) *fs.Inode {
	n := &node{m: d.m, f: f}
	d.m.mu.Lock()
	n.stat(&out.Attr)
	d.m.mu.Unlock()
	return d.NewPersistentInode(ctx, n, fs.StableAttr{Mode: syscall.S_IFREG, Ino: uint64(f.id) + 1})
}

func (d *folder) Create(ctx context.Context, name string, _, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	f := d.m.newFile(mode & 0o777)
	if errno := d.m.rename(Step{Kind: Create, Name: name, File: f.id}); errno != 0 {
		return nil, nil, 0, errno
	}
	return d.inode(ctx, f, out), nil, 0, 0
}

func (d *folder) Unlink(_ context.Context, name string) syscall.Errno {
	return d.m.rename(Step{Kind: Remove, Name: name})
}

func (d *folder) Rename(_ context.Context, name string, _ fs.InodeEmbedder, to string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.EINVAL
	}
	return d.m.rename(Step{Kind: Rename, Name: name, To: to})
}

func (d *folder) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno { return d.m.syncDir() }

// node is a file.
type node struct {
	fs.Inode
	m *model
	f *file
}

var _ = (interface {
	fs.NodeOpener
	fs.NodeReader
	fs.NodeWriter
	fs.NodeFsyncer
	fs.NodeGetattrer
	fs.NodeSetattrer
})(&node{})

// Open lets the kernel forget what it has in its cache, so that who opens a file after a fault sees what readers see.
func (n *node) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) { return nil, 0, 0 }

func (n *node) Read(_ context.Context, _ fs.FileHandle, b []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n.m.mu.Lock()
	defer n.m.mu.Unlock()
	return fuse.ReadResultData(b[:n.f.seen.read(b, off)]), 0
}

func (n *node) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if errno := n.m.change(n.f, Step{Kind: Write, Offset: off, Data: data}); errno != 0 {
		return 0, errno
	}
	return uint32(len(data)), 0
}

func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno { return n.m.sync(n.f) }

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.m.mu.Lock()
	defer n.m.mu.Unlock()
	n.stat(&out.Attr)
	return 0
}

func (n *node) stat(a *fuse.Attr) { a.Mode, a.Size = n.f.mode, uint64(n.f.seen.size) }

func (n *node) Setattr(ctx context.Context, h fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		if errno := n.m.change(n.f, Step{Kind: Truncate, Size: int64(size)}); errno != 0 {
			return errno
		}
	}
	if mode, ok := in.GetMode(); ok {
		n.m.mu.Lock()
		n.f.mode = mode & 0o777
		n.m.mu.Unlock()
	}
	return n.Getattr(ctx, h, out)
}
