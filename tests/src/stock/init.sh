#!/bin/sh
# The first process of the virtual machine: makes it fit for a program, runs that to its end, says its exit code and
# switches the machine off. The lines that begin with "podwire-stock:" are for whoever reads the console.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /var
/bin/busybox --install -s /bin 2>/dev/null
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for place in /run /dev/shm; do mount -t tmpfs tmpfs "$place"; done
# The kernel asks this program for the modules that it lacks, as on every machine.
ln -s /bin/busybox /sbin/modprobe
depmod
ln -s /run /var/run
ip link set lo up
PODWIRE_STOCK=$(uname -r)
export PODWIRE_STOCK
# shellcheck disable=SC1091 # Written beside this file, with the command line.
. /command
# Those that somebody wants at once; all others come when they are needed.
for module in ${PODWIRE_STOCK_MODULES:-}; do modprobe "$module"; done
echo "podwire-stock: begins on $PODWIRE_STOCK"
"$@" </dev/null
echo "podwire-stock: ends with $?"
reboot -f
