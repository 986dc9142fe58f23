// Package ledger is an append-only record that knows no domain: numbered entries, each a leaf of a Merkle tree, with claims
// (keys that one entry alone can hold), debits (counters with a limit), heads (names that point at their newest entry) and entries
// that stay open until another closes them. Who uses it owns kinds and payloads.
//
// # The commit point
//
// One [Ledger.Update] is one bbolt transaction: its entries, their tree hashes, every derived row and one checkpoint signed with
// the ledger's Ed25519 key. Before bbolt's second fdatasync has returned, nothing of it counts; after it, everything does.
//   - A crash before: the next Open sees the state before the Update.
//   - A crash after: all of it is there, though the caller may not have heard so. Claims make the repetition safe.
//   - An error from bbolt's commit means neither: the outcome is unknown. The ledger takes no further Update ([ErrFailed]), leaves a
//     note at Config.Marker or Config.Spare, and no View shows what was not acknowledged. The next Open that finds the note copies the store to a new
//     file, syncs, renames and checks it, since after a failed sync the page cache may show what the disk lacks.
//
// A View never shows an entry before its sync has returned, either: bbolt alone would, between its last write and its last sync.
//
// # Files
//
// <Path> is the bbolt file. <Path>.key holds what must not stand in it, as JSON with mode 0600: the ledger's name, the checkpoint
// key (golang.org/x/mod/sumdb/note, "PRIVATE+KEY+…") and the secret from which serials are made (AES-128, hex). [Create] makes the key file
// first; a key without a store is what a crash leaves, and Create then goes on with it.
//
// Buckets, all numbers big-endian:
//
//	entries      number (8 octets)                  → entry, as below
//	hashes       number (8)                         → the tree hashes that this entry completes, leaf first, 32 octets each
//	claims       first 16 octets of SHA-256(length of space (1), space, key)  → holder (8)
//	counters     name                               → value (8)
//	heads        name                               → newest entry (8)
//	open         number (8)                         → 1 (1)
//	closed       number (8)                         → the entry that closed it (8)
//	meta         "checkpoint"                       → the newest signed checkpoint
//
// All but entries can be recomputed from entries; [Ledger.Check] does, and compares both ways. A claim that finds its row is compared with the
// claims of the holder itself, so two claims with the same 16 octets are never taken for one; the second could not be stored, and its draft is refused
// with an error of its own (no such pair is known; making one takes 2^64 work).
//
// # The entry
//
// Numbers are unsigned and big-endian; a text is its length in octets, then its octets. An entry has exactly one encoding:
//
//	version      1 octet      1
//	index        8            position in the log, from 0
//	time         8            milliseconds since 1970-01-01 UTC, before the year 10000; never less than in the entry before
//	kind         1 + n        1 to 32 of a-z . -
//	payload      4 + n        at most 1 MiB
//	claims       2            how many, at most 256, no two equal; each:
//	               1 + n        space, 1 to 255 octets
//	               1 + n        key, 1 to 255 octets
//	debits       2            how many, at most 256, no counter twice; each:
//	               1 + n        counter, 1 to 255 octets
//	               8            amount, not 0
//	               8            limit
//	heads        2            how many, at most 256, no two equal; each:
//	               1 + n        name, 1 to 255 octets
//	opens        1            0 or 1
//	closes       8            the entry that it closes, 0 for none, else less than index
//
// The leaf hash is SHA-256(0x00, encoding), the tree that of RFC 6962 section 2.1. Entry 0 has the kind "genesis" and the ledger's name as payload; each
// Open adds one of kind "boot". A checkpoint is a signed note (C2SP tlog-checkpoint): name, number of entries, root hash in base64, one line each.
package ledger
