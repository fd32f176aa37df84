// Package chunk keeps the content of files as chunks in blobs: which chunks a blob holds, where their bytes lie, and the digest that each
// must have before anyone reads it. It cuts files into chunks, leaves out what is there already, and writes blobs; it decodes and verifies
// chunks. It must not know file systems, registries or how blobs are kept.
//
// A blob has two address spaces. The encoded one is what is stored and sent. The decoded one, the device, is what a file system reads: each
// chunk begins there on a block of 4 KiB. In a blob without compression both are the same, so that it can be mounted as it is. A device is
// one blob, and a large image has several (Options.Stripe): a device whose chunks are all present needs no watching any more.
//
// # The chunk table
//
// A Table lists the blobs of an image in the order of the devices of its metadata, and their chunks in the order of the decoded space. As a
// file (format version 1, all numbers little-endian) it is
//
//	0   8   magic "WEFTCHNK"
//	8   4   format version, 1
//	12  4   digest algorithm: 1 blake3, 2 sha256
//	16  4   number of devices D
//	20  4   0
//	24  8   number of chunks C
//	32  32  blake3 of everything after this header
//	64      D times 64 bytes: sha256 of the blob (32), its size (8), size of its device (8), codec (4), number of chunks (4), 0 (8)
//	        C times 72 bytes: digest of the decoded chunk (32), offset on the device (8), offset of its extent in the blob (8), size (4),
//	        size of the extent in the blob (4), decoded size of the extent (4), offset of the chunk in the decoded extent (4), flags (4), 0 (4)
//
// An extent is a run of bytes of the blob that is decoded as a whole: one chunk, or several small ones together. An extent whose two sizes
// are equal is stored as it is. In Weft's images the table follows the EROFS image in the same file, on the next block.
package chunk
