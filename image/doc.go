// Package image makes, converts, checks and takes apart images: from folders, tar and OCI images to EROFS (Weft's own form) and to Nydus's
// RAFS v6, and back to tar and OCI. The formats themselves are packages below it. It must not know Kubernetes, nor how images are run.
//
// In a registry or OCI layout an EROFS image is a manifest of the artifact type ArtifactType whose config is the source image's, with one
// layer of the media type MediaTypeMetadata (the metadata image with its chunk table, as zstd) and one of MediaTypeBlob for each blob, in the
// order of the devices. It is an image of its own, or a referrer whose subject is the OCI image that it was made of. A Nydus image has the
// form that Nydus's tools give it: its blobs, then a tar layer with the bootstrap.
package image
