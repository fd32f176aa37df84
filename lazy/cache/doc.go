// Package cache keeps the devices of images on the disk while they are only there in parts: a sparse file with decoded content, and a map
// of the blocks that are present. A block counts as present only after its content was verified and written. The package must not know
// where content comes from nor who reads it.
//
// On disk (format version 1):
//
//	format.json      {"format":"weft-lazy","version":1}
//	devices/KEY/table   the chunks of the device, as package image/chunk writes them
//	devices/KEY/data    sparse, as long as the device
//	devices/KEY/map     what is present for certain: see Map
//
// KEY is the digest of the table, not that of the blob: an image that lies about a blob's chunks gets a device of its own and cannot harm
// others.
//
// The map on the disk follows the content: content is flushed before the map says that it is there, so that a machine that loses its
// power forgets content but never takes a hole for it. Processes that end do not lose anything: the map in memory can be shared memory.
package cache
