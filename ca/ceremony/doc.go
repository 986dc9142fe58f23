// Package ceremony makes a CA: one reviewed file in, one key in the token and one certificate out, and a transcript of it.
//
// The transcript is the record that lets a root be offline (P1): JSON lines, each with the SHA-256 of the line before, each
// appended and synced before the act it announces. A ceremony is always the same six lines:
//
//	begin      the ceremony file, word for word                 — then it is seen that the label is free in the token
//	make       label and algorithm                              — then the key is generated
//	key        its public half
//	intent     the exact TBS, prepared and linted               — then it is signed
//	signature  the certificate, verified with the issuer's key  — then it is given out
//	end        the certificate's hash
//
// A crash at any point needs no repair: run the same file with the same transcript again, and it goes on after the last whole
// line. It makes no second key (the label is announced before it is made, and found again after) and no second certificate (the
// TBS that stands there is the one that is signed). A transcript of another file is refused.
package ceremony
