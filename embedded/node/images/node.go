package images

import (
	"sort"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Names of the images; the registry part is never asked, for the images are
// imported and not pulled.
const (
	PauseName    = "weft.local/pause:1"
	LogagentName = "weft.local/logagent:1"
	TestpodName  = "weft.local/testpod:1"
)

// Pause is the image of every pod's first process.
func Pause(program []byte) Image {
	return Image{
		Name:  PauseName,
		Files: []File{{Path: "/pause", Mode: 0o755, Content: program}},
		Config: v1.ImageConfig{
			User:       "65535:65535",
			Entrypoint: []string{"/pause"},
		},
	}
}

// Logagent is the agent of log pipelines. Its paths are those of Fluent
// Operator's images, so that resources need no other change than that of the
// image: the configuration is a mounted Secret, and is read anew when that
// changes. It reads the node's files, so it is root unless a resource says
// otherwise.
func Logagent(program []byte) Image {
	return Image{
		Name: LogagentName,
		Files: []File{
			{Path: "/fluent-bit/bin/fluent-bit", Mode: 0o755, Content: program},
			{Path: "/fluent-bit/bin/fluent-bit-watcher", Mode: 0o755, Target: "/fluent-bit/bin/fluent-bit", Hard: true},
			{Path: "/fluent-bit/config", Mode: 0o755, Dir: true},
			{Path: "/fluentd/etc", Mode: 0o755, Dir: true},
			{Path: "/fluent-bit/etc/fluent-bit.conf", Mode: 0o644, Content: []byte("@INCLUDE /fluent-bit/config/fluent-bit.conf\n")},
			{Path: "/tmp", Mode: 0o1777, Dir: true},
		},
		Config: v1.ImageConfig{
			Entrypoint:   []string{"/fluent-bit/bin/fluent-bit", "--watch", "--listen=0.0.0.0"},
			Cmd:          []string{"--config=/fluent-bit/config", "--config=/fluentd/etc"},
			ExposedPorts: map[string]struct{}{"2020/tcp": {}},
			WorkingDir:   "/",
		},
	}
}

// Testpod is the image that tests run: busybox with every applet in applets,
// /bin/testpod as entrypoint and /bin/weft-init.
func Testpod(busybox []byte, applets []string, testpod, init []byte) Image {
	files := []File{
		{Path: "/bin/busybox", Mode: 0o755, Content: busybox},
		{Path: "/bin/testpod", Mode: 0o755, Content: testpod},
		{Path: "/bin/weft-init", Mode: 0o755, Content: init},
		{Path: "/etc/passwd", Mode: 0o644, Content: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{Path: "/etc/group", Mode: 0o644, Content: []byte("root:x:0:\nnogroup:x:65534:\n")},
		{Path: "/root", Mode: 0o700, Dir: true},
		{Path: "/tmp", Mode: 0o1777, Dir: true},
	}
	sort.Strings(applets)
	for _, name := range applets {
		if name != "busybox" {
			files = append(files, File{Path: "/bin/" + name, Target: "busybox"})
		}
	}
	return Image{
		Name:  TestpodName,
		Files: files,
		Config: v1.ImageConfig{
			Env:        []string{"PATH=/bin"},
			Entrypoint: []string{"/bin/testpod"},
			Cmd:        []string{"serve"},
			WorkingDir: "/",
		},
	}
}
