// Package registrar brings AWS IoT accounts and regions to the state that fleet.yaml describes.
//
// The way of one run:
//
//  1. [LoadFleet] reads and checks the file and what it names: a [Fleet].
//  2. [Registrar.Plan] looks at AWS, reading only, and hands what it saw to a pure function that compares it with what is wanted. The
//     [Plan] shows every action, and every rule that would be broken, before anything is called.
//  3. [Registrar.Apply] does exactly the actions of a plan. Each is describe, act, and after a lost answer describe again, so that
//     repeating it never leaves a second effect; attempts and results stand in a journal beside the fleet file. Accounts and regions go
//     on independently: one that fails does not stop the others, and the next run finishes it.
//
// The order matters to devices: template, role, policy and rule stand before the CA does, and auto-registration comes on last.
// What is account-wide is made once, before the account's regions.
//
// Ids are computed, never looked up in lists: a CA's id is the SHA-256 of its DER (CA-43), the rest goes by name and content. An
// answer's missing field is unknown, not wrong. The rule ids in this package (CA-16, K-04 …) are those of certmill's collection of AWS IoT rules.
//
// [FirstConnect] is the device's side: connect, be refused while AWS provisions, connect again.
package registrar
