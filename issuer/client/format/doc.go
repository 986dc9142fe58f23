// Package format writes a device's certificate in the files that lines, flash tools, firmware and label printers take.
//
// Every form is a pure function of a Device: what a station was answered, the certificates above it, and, where the form carries it,
// the device's private key. Forms that carry a key say so (Form.Secret), so that whoever writes the file keeps it closed. Only DER that
// was parsed goes in: a form never holds an octet that nobody understood.
package format
