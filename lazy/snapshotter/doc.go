// Package snapshotter is a snapshotter of containerd, served as a proxy plugin: ordinary images are unpacked for overlayfs as containerd itself does
// it, images with a converted form (EROFS or Nydus's RAFS v6, their own or as a referrer) are mounted before they are downloaded. An image that cannot
// be mounted is pulled as usual, and log and metrics say why. It must not know Kubernetes, nor how a converted image is filled: that is Images' matter.
//
// A snapshot is one of four kinds. Ordinary ones hold the difference of one layer. Of an image that is mounted the topmost layer's snapshot is Mounted:
// the whole image is mounted on its folder, so nothing below it counts. The layers below it are Empty; should another image need one, because it shares
// the layer and has no converted form, the layers are fetched then and unpacked there together, which makes it Unpacked.
package snapshotter
