// Package repository holds the tests that look at the source tree itself: which modules and packages may know which.
package repository
