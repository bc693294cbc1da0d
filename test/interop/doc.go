// Package interop tries the gateway against programs that others wrote: the softphone baresip and the proxy and
// registrar kamailio, both from Debian.
package interop
