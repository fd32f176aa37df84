// Package level answers whether a request crosses levels: who is cleared for what, which level an object has, and why a request is denied.
//
// It only denies, or has no opinion; it never allows. All of it is a pure function of a Model: a Snapshot is immutable, a change makes
// another one that shares what did not change. It must not know how a request arrives, nor where the objects come from.
package level
