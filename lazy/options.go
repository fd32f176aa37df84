package lazy

import (
	"errors"
	"log/slog"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/store"
)

// ErrCannot says that images cannot be mounted lazily on this machine or that this image cannot be.
var ErrCannot = errors.New("the image cannot be mounted lazily")

// Mode says how mounted images are filled.
type Mode string

// The modes.
const (
	Auto     Mode = ""         // fanotify, or FUSE where that cannot work; ErrCannot where neither does
	Fanotify Mode = "fanotify" // the kernel asks before it reads from a device: Linux 6.15, the folder on ext4, xfs or btrfs, CAP_SYS_ADMIN
	FUSE     Mode = "fuse"     // the kernel asks for files: any Linux from 5.2 on and any folder, CAP_SYS_ADMIN
	Eager    Mode = "eager"    // the kernel mounts the image when all of it is there
)

// Options of a service.
type Options struct {
	// Root is the folder of the state. It must not lie on a lazy mount; for the mode Fanotify it lies on ext4, xfs or btrfs.
	Root string
	// Store is the machine's content store: a blob that is complete there is not fetched. nil: none.
	Store *store.Store
	Mode  Mode
	// Registry are the options of the client for blobs in registries. Its Keychain is asked after a request's own credentials.
	Registry registry.Options

	Deadline  time.Duration // for one fill, after which the read fails; 0 means 30 s
	ReadAhead int           // bytes that a request to a registry gets beyond what was read; 0 means 256 KiB, less none
	Limit     int64         // bytes per second that come from registries; 0: no limit
	// CacheLimit is how many bytes the cache may take on the disk before content that nothing mounts is dropped, the longest unused first; 0: no
	// limit.
	CacheLimit int64
	// Background lets the rest of mounted images be fetched when nobody waits for anything.
	Background bool
	// Learn is how long after a mount it is recorded what is read, for the next start; 0 means 30 s, less: nothing is recorded.
	Learn time.Duration
	// Share pushes what was learned beside the image, where the credentials allow it.
	Share bool
	// Keeper is the program and its arguments that is started as the keeper, see package keeper; nil: the running program, with the argument
	// keeper.
	Keeper []string
	// StandBy is a program, an absolute path, and its arguments, that the keeper starts so that readers do not wait for the next start of this one: it opens
	// the folder with Follow, and serves it when no other process does. Environment is its environment. nil: nobody stands by.
	StandBy, Environment []string
	// Follow lets Open wait until no process serves the folder, for as long as its context lasts. Credentials are those that the process before had: the
	// Keychain is not asked.
	Follow bool
	// Retire is called when another process wants to serve the folder: Close the service as soon as possible, for after 2 s the process is
	// killed. nil: only that.
	Retire func()
	// Unguarded is called when mounts of an image were guarded by no process for a while, so that what was read from them may have been zeros. It must not
	// wait for the service. nil: only the log and Stats say so.
	Unguarded func(image string, targets []string)
	Logger    *slog.Logger // nil: none
}

// Request says which image is to be prepared.
type Request struct {
	// Reference names the image: [HOST/]NAME[:TAG][@DIGEST] in a registry, oci:FOLDER[:TAG], or a folder or file on the disk. If it leads to
	// an ordinary image, the converted one that refers to it is taken.
	Reference string
	// Credentials for the reference's registry, kept in memory only. nil: those of the service's options.
	Credentials *authn.AuthConfig
	// Platform chooses from an index; nil: Linux on this machine's architecture.
	Platform *ocispec.Platform
	// Metadata is the metadata image or bootstrap, if the caller has it; then Reference says where the blobs lie.
	Metadata []byte
	// Subject is the digest of the ordinary image that the reference leads to, if the caller knows that it is one: it is not read, what refers to it is
	// looked for at once.
	Subject digest.Digest
	// Converted is called when it is known that there is a converted image, before that is read. nil: nobody wants to know.
	Converted func()
}

// MountOptions say how an image is mounted.
type MountOptions struct {
	Flags int // of mount_setattr(2), such as unix.MOUNT_ATTR_NODEV; read-only always
}

// Stats of an image. Bytes are decoded ones unless they were fetched.
type Stats struct {
	ID       string   `json:"id"`
	Names    []string `json:"names"`
	Mode     Mode     `json:"mode"`
	Bytes    int64    `json:"bytes"`   // of all devices
	Present  int64    `json:"present"` // of these
	Devices  int      `json:"devices"`
	Complete int      `json:"completeDevices"` // reads of these do not leave the kernel
	Fetched  int64    `json:"fetchedBytes"`    // as they are stored, since the service was opened
	Read     int64    `json:"readBytes"`       // of devices that were read while they were not complete, each counted once
	Events   int64    `json:"events"`          // how often readers had to wait
	Failed   int64    `json:"failedReads"`
	Prefetch int64    `json:"prefetchedBytes"` // of Fetched: because of what was learned
	Learned  bool     `json:"learned"`         // what an earlier start reads is known
	Mounts   []string `json:"mounts"`
	// What came by way of FUSE since the service was opened: reads that the kernel had answered, and files that it was given one of its own for,
	// reads of which ask nobody.
	Asked   int64 `json:"askedReads,omitempty"`
	Through int64 `json:"filesReadBehind,omitempty"`
	// Unguarded are mounts of which reads may have seen zeros or, through FUSE, have failed, because every process that guards them had ended.
	Unguarded []string `json:"unguarded,omitempty"`
}
