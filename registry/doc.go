// Package registry is a client of OCI registries: references, credentials, mirrors, and the requests of the
// distribution specification 1.1, made to go on through cut connections, busy registries and expiring tokens. Blobs
// are streamed and verified; memory does not grow with their size. It must not know what images are used for nor
// where blobs are kept, and it never logs a credential.
package registry
