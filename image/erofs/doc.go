// Package erofs writes, reads, checks and mounts file systems in the kernel's read-only format EROFS. It writes what Weft's images consist
// of: one metadata image, with folders, inodes, attributes and the content of very small files, whose other files consist of chunks on
// further devices. It reads every uncompressed EROFS. It must not know where blobs come from, nor any other image format.
//
// The format is that of the kernel: fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst. The metadata image is
//
//	0       nothing
//	1024    superblock, 128 bytes, with checksum
//	1152    device table, 128 bytes for each device; the tag is the blob's sha256 in hexadecimal
//	block   shared extended attributes: those that several files have
//	block   inodes in slots of 32 bytes, each folder's entries together; with each inode its attributes, and its content if that is small
//	        (folders, symbolic links, small files) or the index of its chunks
//	block   what of folders, symbolic links and files without chunks fills whole blocks
//	block   the chunk table (package chunk), which the kernel does not read
//
// An inode's number is its distance from the beginning of the inodes in slots. A chunk's index has 8 bytes: 0 (2), device counted from 1
// (2), block of the device (4); a hole has block 0xffffffff. What is not written: compression, 48-bit addresses, more than one block size
// (4 KiB).
//
// The kernel never reads metadata lazily: the image must be complete when it is mounted. The devices may be filled while they are read.
package erofs
