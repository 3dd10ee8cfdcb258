#!/bin/bash
# boot.sh groups|cdev FOLDER: boots the lab guest and stays until it powers off. Its console is this terminal.
set -eu
kind=$1 folder=$2
exec qemu-system-x86_64 -machine q35 -accel tcg,thread=multi,tb-size=1024 -cpu max,la57=off -smp 2 -m "${MEMORY:-3G}" -nodefaults -display none -no-reboot \
    -device intel-iommu -device e1000e,addr=7 -device nvme,serial=lab,addr=8 \
    -kernel "$folder/$kind/kernel" -initrd "$folder/$kind/initramfs" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off nokaslr no_timer_check intel_iommu=on apparmor=0" \
    -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
    -virtfs local,path="$folder/share",mount_tag=lab,security_model=none \
    -serial stdio
