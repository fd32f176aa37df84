// Command keeper guards the readers of lazily mounted images while the process that fills them is away. That process starts it; it is a program of its own so
// that it is small and needs to change seldom.
package main
