#!/bin/bash
# run.sh [groups] [cdev]: the commands of VFIO devices on a real device, without hardware: in a guest under TCG whose root is this machine's
# own, read-only, with the kernel's sample device mtty. groups: Debian's kernel. cdev: a kernel of our own, which is built at the first
# run. Both without arguments. Run as root, after "dotnet build". FOLDER keeps what was built.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
FOLDER=${FOLDER:-$HOME/.cache/migrationops/vfio-lab}
PWSH=${PWSH:-$(command -v pwsh)}
[ $# -gt 0 ] || set -- groups cdev
for tool in qemu-system-x86_64 busybox flex bison bc cpio modprobe python3; do
    command -v $tool > /dev/null || { echo "lab: $tool is missing. Run: apt-get install qemu-system-x86 busybox-static linux-source-6.12 linux-headers-amd64 linux-image-amd64 flex bison bc cpio kmod libelf-dev libssl-dev xz-utils python3 (6.12 of the backports on Debian 12)"; exit 2; }
done
failed=0
for kind; do
    echo "== $kind"
    [ -e "$FOLDER/$kind/initramfs" ] || "$here/build.sh" "$kind" "$FOLDER"
    rm -rf "$FOLDER"/share/jobs/* "$FOLDER"/share/jobs/.[a-z]* "$FOLDER"/share/out/*
    # A copy, so that a build meanwhile does not change what the guest has.
    rm -rf "$FOLDER/share/module"
    cp -r "$repository"/output/MigrationOps/* "$FOLDER/share/module"
    cp "$here"/guest.sh "$here"/suite.ps1 "$here"/*.py "$FOLDER/share/"
    "$here/boot.sh" "$kind" "$FOLDER" < /dev/null > "$FOLDER/$kind/console" 2>&1 &
    guest=$!
    trap 'kill $guest 2> /dev/null || true' EXIT
    until [ -e "$FOLDER/share/out/up" ]; do kill -0 $guest || { cat "$FOLDER/$kind/console"; exit 3; }; sleep 0.5; done
    "$here/job.sh" "$FOLDER" suite 900 << GUEST || failed=1
set -e
types=/sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-1/create
for n in 1 2; do echo 83b8f4f2-509f-382f-3c1e-00000000000\$n > \$types; done
pci=0000:00:07.0
[ ! -e /sys/bus/pci/devices/\$pci/driver ] || echo \$pci > /sys/bus/pci/devices/\$pci/driver/unbind
echo vfio-pci > /sys/bus/pci/devices/\$pci/driver_override
echo \$pci > /sys/bus/pci/drivers_probe
first=83b8f4f2-509f-382f-3c1e-000000000001 second=83b8f4f2-509f-382f-3c1e-000000000002
if [ $kind = cdev ]; then
    interface=CharacterDevice
    nodes="\$(for d in \$first \$second; do echo /dev/vfio/devices/\$(ls /sys/bus/mdev/devices/\$d/vfio-dev); done)"
else
    interface=Group
    nodes="\$(for d in \$first \$second; do echo /dev/vfio/\$(basename \$(readlink /sys/bus/mdev/devices/\$d/iommu_group)); done)"
fi
set -- \$nodes
cd /root
"$PWSH" -NoProfile -File /lab/suite.ps1 /lab/module/MigrationOps.psd1 \$interface \$first \$second \$1 \$2 \$pci
GUEST
    touch "$FOLDER/share/jobs/poweroff"
    wait $guest || true
    trap - EXIT
done
exit $failed
