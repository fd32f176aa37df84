// Package rafs reads and writes Nydus's RAFS v6: images that the kernel mounts as EROFS and that Nydus's tools and daemon read. It must not
// know registries, nor how images are put together.
//
// The format is that of dragonflyoss/nydus (rafs/src/metadata/layout/v6.rs, storage/src/meta, builder/src/core/v6.rs). An image is a bootstrap
// and data blobs. The bootstrap is an EROFS image (package erofs) without checksum and shared attributes, with
//
//	1152    extended superblock, 256 bytes: flags, and where the tables are
//	1408    device table
//	block   blob table, 256 bytes for each blob; behind it the prefetch table, 4 bytes (an inode's number) for each rule
//	block   one block of zeros, then inodes and folders; the root is inode 128
//	block   chunk table, 80 bytes for each chunk, sorted by digest
//
// The index of a chunk has in its upper bits also the chunk's number in its blob (24 bits), so that there are at most 254 blobs. The indexes
// of a file are those of chunks of the superblock's size, even where the inode says that the whole file is one chunk because its chunks
// follow each other.
//
// A data blob is
//
//	chunks, encoded
//	[tar header "image.blob"]
//	table of chunks (16 or 24 bytes for each, batches of 40 bytes behind them), encoded; its header, 4096 bytes
//	[tar header "blob.meta"]
//	[digests of the chunks, 32 bytes for each; tar header "blob.digest"]
//	[bootstrap, encoded or not; tar header "image.boot"]
//	[table of contents, 128 bytes for each part; tar header "rafs.blob.toc"]
//
// where tar headers follow what they describe. The addresses in the bootstrap are those of the decoded chunks, each on a block of 4 KiB.
package rafs
