// Package levels tests the door in the embedded API server, with the program that users start.
package levels
