// Package reference finds what an object leads to: secrets that a pod mounts, the account it runs as, the node it asks for, the subjects that a
// binding gives rights to, the service that a webhook sends everything to. Levels would be worth nothing if a low object could reach a high
// one by naming it.
//
// Find is a pure function from an object to its references, each with the path of its field. Judge asks a level.Snapshot about them. A reference
// is written as the request that the object makes by it, and judged as made by the object's holder: what its namespace, or the label that it
// carries itself, is cleared for. So it holds for objects that controllers make, and for templates of every kind of workload. The package must not know how
// an object arrives, nor reads anything.
package reference
