#!/bin/bash
# build.sh groups|cdev FOLDER: what the lab guest boots from. groups: Debian's own kernel, which has VFIO groups and no iommufd;
# cdev: a small kernel from Debian's source package, which has both interfaces. Needs the packages that run.sh names.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kind=$1 folder=$2
mkdir -p "$folder/$kind/root/modules" "$folder/$kind/root/bin" "$folder/share/jobs" "$folder/share/out"
root=$folder/$kind/root
archive=$(ls /usr/src/linux-source-6.*.tar.xz | tail -1)
source=$folder/$(basename "$archive" .tar.xz)
if [ ! -d "$source" ]; then
    # Under its name only when it is whole.
    mkdir -p "$folder/unpacking"
    tar xf "$archive" -C "$folder/unpacking"
    mv "$folder/unpacking/$(basename "$source")" "$source"
fi
cp "$(command -v busybox)" "$root/bin/busybox"
cp "$here/init" "$root/init"
: > "$root/modules/order"
if [ "$kind" = groups ]; then
    release=$(basename "$(ls -d /lib/modules/6.*-amd64 | tail -1)")
    ln -sf "/boot/vmlinuz-$release" "$folder/$kind/kernel"
    mkdir -p "$folder/mtty" "$folder/share/$release"
    cp "$source/samples/vfio-mdev/mtty.c" "$folder/mtty/"
    echo 'obj-m := mtty.o' > "$folder/mtty/Makefile"
    make -s -C "/lib/modules/$release/build" M="$folder/mtty" modules
    cp "$folder/mtty/mtty.ko" "$folder/share/$release/"
    for name in 9pnet_virtio 9p overlay; do
        modprobe -S "$release" --show-depends "$name" | awk '$1 == "insmod" { print $2 }'
    done | awk '!seen[$0]++' | while read -r path; do
        name=$(basename "${path%.xz}")
        case $path in
            *.xz) xz -dc "$path" > "$root/modules/$name" ;;
            *) cp "$path" "$root/modules/$name" ;;
        esac
        echo "$name" >> "$root/modules/order"
    done
else
    cd "$source"
    make -s KCONFIG_ALLCONFIG="$here/kernel.config" allnoconfig
    grep -o '^CONFIG_[A-Z0-9_]*=y' "$here/kernel.config" | while read -r option; do
        grep -q "^$option" .config || { echo "lab: this kernel source has no $option" >&2; exit 1; }
    done
    make -s -j"${JOBS:-1}" bzImage
    ln -sf "$source/arch/x86/boot/bzImage" "$folder/$kind/kernel"
fi
( cd "$root" && find . | cpio -o -H newc --quiet | gzip -1 ) > "$folder/$kind/initramfs"
