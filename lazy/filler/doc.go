// Package filler gets the missing parts of devices from where blobs lie: each extent once however many readers wait for it, in requests that
// are larger than what was asked for but bounded, every chunk verified before anyone can see it. It must not know who reads, nor how images
// are mounted.
package filler
