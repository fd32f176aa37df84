// Package lazy mounts images before they are there: EROFS and Nydus images whose metadata is complete and whose devices are filled while they
// are read. It must not know containers, containerd or Kubernetes.
//
// A Service keeps its state in one folder. The usual way:
//
//	service, err := lazy.Open(ctx, lazy.Options{Root: "/var/lib/weft/lazy"})
//	image, err := service.Prepare(ctx, lazy.Request{Reference: "registry.example.com/team/app@sha256:..."})
//	err = image.Mount(ctx, "/run/app/rootfs")
//	...
//	err = image.Unmount(ctx, "/run/app/rootfs")
//	err = service.Remove(ctx, image.ID())
//
// Open finds again what an earlier process with the same folder had prepared, and Restore mounts again what a restart of the machine has
// unmounted. An image is named by its ID, the digest of its metadata: images with the same metadata are one image. Devices are shared
// between images, on the disk and in memory.
//
// How an image is filled is its mode: see Mode. Errors that say that an image cannot be mounted lazily, whatever is tried, are ErrCannot or
// image.ErrOrdinary: then pull it as an ordinary image.
package lazy
