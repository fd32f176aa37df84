// Package regrade changes the level of a thing together with what has to change with it: Make plans the smallest set of parents and
// children, a Run carries the plan out as one transaction. It must not know how the things were read, nor how a plan is printed.
package regrade
