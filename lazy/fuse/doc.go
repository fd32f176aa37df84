// Package fuse shows an image through the kernel's FUSE: the way in where the kernel cannot ask before it reads from files. It must not know
// where content comes from, registries or caches: whoever serves an image gives its Content.
//
// A Session is what outlives the process that serves it: the descriptor of the connection to the kernel, and shared memory. Whoever holds both
// may Serve; as long as anybody holds the descriptor, readers wait and none of them fails.
//
// Nothing of a connection is in the memory of a process alone. Names of files in requests are the numbers of their inodes in the image, so
// there is nothing to be remembered of lookups. The kernel writes each request right into the shared memory, where it stays until it is
// answered; the next process begins with those that it finds there. This works with every kernel, also with those that cannot send requests
// again. An answer that is given twice does no harm, for numbers of requests are not used twice.
//
// # Files that are complete
//
// Of a large file whose content is all there, the kernel is given a file of its own (FUSE_PASSTHROUGH, Linux 6.9): an EROFS mount of the same
// image that has no place in the tree of folders. Reads of it do not reach the process that serves, nor do they need it. The kernel
// wants a file to be open in one of both ways at a time, and always with the same file behind; what was chosen is in the shared memory.
//
// # The memory
//
// All numbers in the machine's byte order (format version 1):
//
//	0      header of 4096 bytes: magic "WEFTFUSE", format version (4), 1 if the kernel was answered its first request (4), flags of that
//	       answer (8), number of inodes (8); 64 identity of the image (32)
//	4096   1024 slots of 8192 bytes for requests, as the kernel writes them (linux/fuse.h, struct fuse_in_header); length 0: free
//	...    8 bytes for each inode: number of the kernel's file behind it (4), 0 if there is none; how often it is open without one (4)
package fuse
