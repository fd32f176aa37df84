#!/bin/busybox sh
# First process of the guest: loads the modules, puts memory over the host's
# files and goes on with the command there.
b=/bin/busybox
fail() { echo "guest: $1"; $b poweroff -f; }

$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
while read -r m; do
  $b insmod "/modules/$m.ko" || echo "guest: module $m was not loaded"
done </modules/order

$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /host || fail "the host's files cannot be mounted"
$b mount -t tmpfs -o size=80% memory /memory
$b mkdir /memory/changes /memory/work
$b mount -t overlay -o lowerdir=/host,upperdir=/memory/changes,workdir=/memory/work overlay /root || fail "no overlay"

for d in proc sys dev; do $b mount --move /$d /root/$d; done
$b mkdir -p /root/dev/pts /root/dev/shm /root/dev/net
$b mount -t devpts devpts /root/dev/pts
# State cannot lie on the overlay: an overlay's upper folder may not.
for d in run var/lib dev/shm; do $b mount -t tmpfs tmpfs /root/$d; done
$b mkdir -p /root/var/lib/tmp
[ -e /root/dev/net/tun ] || $b mknod /root/dev/net/tun c 10 200
$b mount -t cgroup2 cgroup2 /root/sys/fs/cgroup || fail "no control groups version 2"
echo guest >/root/proc/sys/kernel/hostname
$b ip link set lo up
$b cp /command /root/run/command
exec $b switch_root /root /bin/sh /run/command
