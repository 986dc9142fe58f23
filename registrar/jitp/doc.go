// Package jitp reads the provisioning templates with which AWS IoT Core makes a thing out of a certificate at its first
// connect (just-in-time provisioning), and says what would come out.
//
// [Parse] takes a template body as strictly as AWS is known to, [Template.Lint] adds what certmill wants beyond that, and
// [Template.Resolve] runs the template for one certificate: a pure function, the same for the plan of the registrar and for
// the simulator. [SubjectParameters] gives the parameters that AWS draws from a certificate.
//
// The rule ids in this package (PT-20 …) are those of certmill's collection of AWS IoT rules. Placeholders such as {account}
// are not part of AWS's grammar: whoever reads a template file replaces them before Parse.
//
// Templates of fleet provisioning have a wider grammar (Mappings, DeviceConfiguration, free parameters) and are not read here.
package jitp
