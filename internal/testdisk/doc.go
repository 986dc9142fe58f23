// Package testdisk is a disk for tests: it keeps a record of every write, truncate, rename and sync that real programs make through the kernel, fails where it is
// told to, and says what a power failure could leave of it.
//
// A [Disk] is a mounted FUSE file system with one folder, in memory. It is served by a process of its own ([ServeIfAsked] in TestMain): a page fault on a mapped file
// stops a thread where Go's scheduler does not see it, and a process that serves its own faults would wait for itself.
//
// # What survives a power failure
//
// A sync of a file makes the file's content durable, a sync of the folder the names in it; nothing else is promised. What was done since may be there, in any
// part and in any order ([Recording.Cuts]):
//   - each write in pieces of 4 KiB or of 512 octets, each piece or not; the last write also torn at any octet
//   - a file that grew: the new length without the data (zeros), the data, or neither
//   - names: what was done to them up to some point and nothing after it (file systems keep a journal of names), whatever became of the content
//
// # How it fails
//
// One step fails ([Disk.Fail]) in one of three ways ([Fault]): the caller hears an error in each of them.
package testdisk
