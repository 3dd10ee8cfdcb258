#!/usr/bin/env bash
# daemon.sh LIBVIRT STATE NAME: a host of its own with a libvirtd, until it is killed: mounts, processes and a host name of its own,
# without systemd, D-Bus or polkit. LIBVIRT is what install-peers.sh unpacked; it lies over this machine's /usr there. All that
# libvirt writes is below STATE: its socket is STATE/run/libvirt/libvirt-sock, the host's /run is STATE/run. Needs root.
set -euo pipefail
libvirt=$1 state=$2 name=$3
if [[ ${4:-} != inside ]]; then
    # Every process of the host, QEMU too, ends with this one.
    exec unshare --mount --propagation private --uts --pid --fork --kill-child --mount-proc "$0" "$@" inside
fi

mkdir -p "$state"/{run,etc,lib,log,over/etc/libvirt,over/var/{lib,cache,log}/libvirt}
cp -r "$libvirt/etc/libvirt/." "$state/etc/"
cat >"$state/etc/qemu.conf" <<END
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
lock_manager = "nop"
END
cat >"$state/etc/libvirtd.conf" <<END
host_uuid = "$(</proc/sys/kernel/random/uuid)"
unix_sock_group = "root"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:stderr"
END
# The user and the groups that the packages make.
{ grep -v '^libvirt-qemu:' /etc/passwd; echo 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin'; } >"$state/over/etc/passwd"
{ grep -vE '^(libvirt-qemu|kvm):' /etc/group; echo 'libvirt-qemu:x:64055:'; echo 'kvm:x:64056:'; } >"$state/over/etc/group"
mount -t overlay overlay -o "lowerdir=$libvirt/over:/usr" /usr
mount -t overlay overlay -o "lowerdir=$state/over/etc:/etc" /etc
mount -t overlay overlay -o "lowerdir=$state/over/var:/var" /var
mount --bind "$state/etc" /etc/libvirt
mount --bind "$state/lib" /var/lib/libvirt
mount --bind "$state/log" /var/log/libvirt
# What libvirt finds out about the QEMUs of the machine is true for every host; it takes 12 s.
mkdir -p "$libvirt/cache"
mount --bind "$libvirt/cache" /var/cache/libvirt
mount --bind "$state/run" /run
hostname "$name"
# This shell stays: it is the host's first process, and reaps the others.
/usr/sbin/libvirtd --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirtd.pid &
wait $!
