// Package attack tries to get around levels: a catalogue of attempts, each with variants, is run against a cluster as a subject of a low level that
// has every right that roles can give, and what must stay allowed is tried beside it. It reports what was expected, what was seen and why.
//
// Writes are dry runs. What it needs (two namespaces, some objects, two service accounts) it makes and removes.
package attack
