// Package lint finds what is wrong with a certificate before it exists: zlint behind our choice of rules, and rules of our own
// for what AWS IoT would refuse or misunderstand.
//
// Of zlint's sources, those that speak about any PKI are used: the RFCs and Community. The rules of the CA/Browser Forum, of root
// stores and of ETSI are about certificates that browsers trust, and would cry wolf over a device that lives twenty years.
package lint
