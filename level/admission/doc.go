// Package admission is the door at which written objects are judged: who writes what, the labels that objects carry, what they name, and how much
// the pods of a workspace request together. It answers AdmissionReviews; the same code stands in the process of the embedded API server.
//
// It denies or lets through, never changes an object, and reads nothing: snapshots, roles, addresses and usage are handed in. It must not know
// how it is reached.
package admission
