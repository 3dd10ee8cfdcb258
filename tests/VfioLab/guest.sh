#!/bin/bash
# What the lab guest runs on this machine's root: loads VFIO and the sample device, then runs every job that appears in /lab/jobs.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8 NO_COLOR=1
export DOTNET_CLI_TELEMETRY_OPTOUT=1 POWERSHELL_TELEMETRY_OPTOUT=1 POWERSHELL_UPDATECHECK=Off
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts

mount -t tmpfs tmpfs /run
mount -t tmpfs shm /dev/shm
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
ip link set lo up
for module in vfio vfio_iommu_type1 vfio-pci mdev iommufd; do modprobe "$module" 2>/dev/null; done
[ -e /sys/class/mtty ] || insmod "/lab/$(uname -r)/mtty.ko"
echo "lab: kernel $(uname -r) is up"
uname -r > /lab/out/up
while [ ! -e /lab/jobs/poweroff ]; do
    for job in /lab/jobs/*.sh; do
        [ -e "$job" ] || continue
        name=$(basename "$job" .sh)
        mv "$job" "/lab/jobs/$name.running"
        ( bash "/lab/jobs/$name.running" > "/lab/out/$name.log" 2>&1; echo $? > "/lab/out/$name.rc"; rm -f "/lab/jobs/$name.running" ) &
    done
    sleep 0.3
done
rm -f /lab/jobs/poweroff
sync
echo o > /proc/sysrq-trigger
sleep 60
