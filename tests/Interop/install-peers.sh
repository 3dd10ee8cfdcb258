#!/usr/bin/env bash
# Installs the real peers of the interop tests: QEMU, virtiofsd, passt, QEMU's stream scripts and a few tools.
#
#   install-peers.sh [FOLDER]     default: $MIGRATIONOPS_PEERS, else ~/.cache/migrationops/peers
#
# For Debian 12 or later on amd64. QEMU and the tools are ordinary packages (QEMU from backports on Debian 12); only
# root can install those, anyone else is told what is missing. virtiofsd, passt and a second QEMU come from Debian 13,
# whose programs need a newer glibc than Debian 12 has: they are unpacked below FOLDER together with their libraries,
# and the machine's own libc stays as it is.
#
# A third QEMU comes from Debian 13's backports in the same way: it has the hand-over mode cpr-exec, which 10.0 lacks.
# A fourth is Debian 12's own 7.2, with the programs of other targets, and Debian 13's of these targets beside them: the
# verdicts on streams are held against releases and targets that differ.
#
# libvirt is that of Debian 12's backports, with its libraries: nothing of it is installed. tests/Interop/Libvirt/daemon.sh runs it
# where its folders lie over the machine's.
#
# The result is FOLDER/peers.json, name -> path and version, written last: every peer in it has been started once.
# A second run only checks that they still start. To get newer versions, or after moving FOLDER, remove it first.
# shellcheck disable=SC2016 # $(RELEASE) and the like are for apt to fill in
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }
die() { say "install-peers: $*"; exit 1; }

[[ $# -le 1 && ${1:-} != -* ]] || die "usage: ${0##*/} [FOLDER]"
# shellcheck source=/dev/null
[[ ! -r /etc/os-release ]] || . /etc/os-release
# Debian testing has no VERSION_ID.
[[ ${ID:-} == debian && ${VERSION_ID:-99} -ge 12 && $(dpkg --print-architecture) == amd64 ]] ||
    die "this needs Debian 12 or later on amd64; run it in a container or virtual machine of that kind"

dir=${1:-${MIGRATIONOPS_PEERS:-$HOME/.cache/migrationops/peers}}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
[[ $dir != *:* ]] || die "the folder's name can't have a colon, which separates the entries of an rpath: $dir"

export LC_ALL=C.UTF-8
# Debian's own programs first, and ip, which is in a folder that a user's PATH often lacks.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
scripts=(analyze-migration.py vmstate-static-checker.py)

# Other targets than the machine's, whose boards have other devices and CPUs.
targets=(aarch64 ppc64 s390x riscv64)

# Name, package ("-" and so on: unpacked below the folder, from Debian 13, its backports, Debian 12, Debian 13's other targets, and Debian 12's backports), the lowest version that will do, the argument that prints it.
peers='qemu-system-x86_64 qemu-system-x86 10.0        --version
qemu-system-aarch64       qemu-system-arm 10.0        --version
qemu-img                  qemu-utils      10.0        --version
qemu-system-x86_64-trixie -               10.0        --version
qemu-system-x86_64-newer  --              10.2        --version
virtiofsd                 -               1.13        --version
passt                     -               0.0~git2025 --version
python3                   python3         3.9         --version
zstd                      zstd            1.0         --version
lzop                      lzop            1.0         --version
gzip                      gzip            1.0         --version
bzip2                     bzip2           1.0         --help
xz                        xz-utils        5.0         --version
ip                        iproute2        5.0         -V
openssl                   openssl         3.0         version
sshd                      openssh-server  9.0         -V
certtool                  gnutls-bin      3.7         --version
ps                        procps          3.0         --version'
peers+=$'\n''qemu-system-x86_64-older  ---             7.2         --version
libvirtd                  -----           11.0        --version
virsh                     -----           11.0        --version'
for target in "${targets[@]}"; do
    peers+=$'\n'"qemu-system-$target-older --- 7.2 --version"$'\n'"qemu-system-$target-trixie ---- 10.0 --version"
done

# Prints name, path and version of one peer; fails when it is absent, too old or doesn't start.
check() {
    local name=$1 package=$2 minimum=$3 argument=$4 path output number='[0-9]+(\.[0-9]+)+[^[:space:],)]*'
    if [[ $package == -* ]]; then path=$dir/bin/$name; else path=$(type -P "$name") || return 1; fi
    # By line, because passt ends without flushing what it printed to a pipe.
    output=$(stdbuf -oL "$path" "$argument" 2>&1 </dev/null) && [[ $output =~ $number ]] || return 1
    dpkg --compare-versions "${BASH_REMATCH[0]}" ge "$minimum" || return 1
    printf '%s\t%s\t%s\n' "$name" "$path" "${BASH_REMATCH[0]}"
}

# Prints what is there, a line each, or "lacking" and the package.
inspect() {
    local name package minimum argument script folder=$dir/share/qemu-scripts
    while read -r name package minimum argument; do
        check "$name" "$package" "$minimum" "$argument" || printf 'lacking\t%s\n' "$package"
    done <<<"$peers"
    for script in "${scripts[@]}"; do
        if [[ -s $folder/$script && -s $folder/VERSION ]]; then
            printf '%s\t%s\t%s\n' "$script" "$folder/$script" "$(<"$folder/VERSION")"
        else
            printf 'lacking\t-\n'
        fi
    done
}

as_json() {
    python3 -c 'import json, sys
rows = [line.rstrip("\n").split("\t") for line in sys.stdin]
print(json.dumps({name: {"path": path, "version": version} for name, path, version in rows}, indent=2))'
}

# The address this machine gets Debian from, in whatever way its sources are written. Other vendors call their suites
# by Debian's names too, so the address has to look like Debian's (or a mirror list's) and the component be "main".
mirror() {
    local uri release component
    while IFS='|' read -r uri release component; do
        uri=${uri%/}
        [[ $component == main && $uri =~ (/debian|/debian\.list)$ ]] || continue
        [[ $release =~ ^(${VERSION_CODENAME:-sid}|stable|testing|unstable|sid)$ ]] || continue
        printf '%s\n' "$uri"
        return
    done < <(apt-get indextargets --no-release-info --format '$(REPO_URI)|$(RELEASE)|$(COMPONENT)')
    die "apt's sources name no Debian mirror with the component main; add one, then run this again"
}

deb822() { printf 'Types: %s\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$1" "$(mirror)" "$2" "$keyring"; }

apt_install() {
    local plan
    plan=$(apt-get install -s --no-install-recommends "$@") || die "apt-get can't install $*; see its message above"
    # Everything on the machine runs on its libc: no test is worth changing that.
    ! grep -q '^Inst libc6 \[' <<<"$plan" ||
        die "installing $* would upgrade libc6; upgrade the machine first, then run this again"
    # A package's service (sshd's for one) is not what anybody asked for.
    local policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' RETURN
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "$@" >/dev/null ||
        die "apt-get install $* failed; see its message above"
}

install_packages() {
    local qemu=() tools=() package release=() backports=''
    for package in "$@"; do
        case $package in -*) ;; qemu-*) qemu+=("$package") ;; *) tools+=("$package") ;; esac
    done
    [[ ${#qemu[@]} -gt 0 || ${#tools[@]} -gt 0 ]] || return 0
    if [[ ${VERSION_ID:-99} -lt 13 ]]; then
        backports=$VERSION_CODENAME-backports
        release=(-t "$backports")
    fi
    if [[ $EUID -ne 0 ]]; then
        say "install-peers: only root can install what is missing here. Run this script once as root, or as root:"
        [[ -z $backports || ${#qemu[@]} -eq 0 ]] || say "  (with $backports in apt's sources)"
        [[ ${#qemu[@]} -eq 0 ]] || say "  apt-get install --no-install-recommends ${release[*]} ${qemu[*]}"
        [[ ${#tools[@]} -eq 0 ]] || say "  apt-get install --no-install-recommends ${tools[*]}"
        exit 1
    fi
    if [[ ${#qemu[@]} -gt 0 && -n $backports ]] &&
        ! apt-get indextargets --no-release-info --format '$(RELEASE)' | grep -x "$backports" >/dev/null; then
        deb822 deb "$backports" >/etc/apt/sources.list.d/migrationops-backports.sources
        # Below the 500 of the release itself: nothing comes from backports unless asked for by name.
        printf 'Package: *\nPin: release n=%s\nPin-Priority: 100\n' "$backports" >/etc/apt/preferences.d/migrationops-backports
    fi
    # An unrelated source may be out of order; if the packages can't be had, the next step says so.
    apt-get update -qq || say "install-peers: apt-get update had errors, going on"
    # The tools apart, or they would come from backports as well.
    [[ ${#tools[@]} -eq 0 ]] || apt_install "${tools[@]}"
    [[ ${#qemu[@]} -eq 0 ]] || apt_install "${release[@]}" "${qemu[@]}"
}

# Prepares an apt in $work for the types ("deb deb-src") and suites given.
own_apt() {
    rm -rf ${work:+"$work"}
    work=$(mktemp -d)
    mkdir -p "$work"/{lists/partial,cache/archives/partial,unpacked,source}
    # apt downloads as its own user when run by root.
    chmod 755 "$work"
    [[ $EUID -ne 0 ]] || chown _apt "$work/source"

    # An apt of our own: its sources, lists and cache are here, and it believes that nothing is installed yet. So it
    # downloads a program with all the libraries it needs, and the machine's apt never hears of it. The machine's
    # proxy settings still apply, its hooks don't.
    deb822 "$1" "$2" >"$work/own.sources"
    : >"$work/status"
    cat >"$work/apt.conf" <<END
Dir::State "$work";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Dir::Cache::archives "$work/cache/archives";
Dir::Etc::sourcelist "$work/own.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
END
}

# Makes programs of $stage run with the libraries beside them, once all of it lies in the folder $1.
relink() {
    local home=$1 file
    shift
    for file in "$@"; do
        "$stage/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" --library-path "$stage/usr/lib/x86_64-linux-gnu" \
            "$stage/usr/bin/patchelf" --set-interpreter "$home/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" \
            --force-rpath --set-rpath "$home/usr/lib/x86_64-linux-gnu" "$file"
    done
}

# Debian's QEMU looks for firmware and modules in /usr, wherever it lies itself: it would take the machine's.
wrap_qemu() {
    printf '#!/bin/sh\nexport QEMU_MODULE_DIR=%q\nexec %q -L %q -L %q "$@"\n' "$1/usr/lib/x86_64-linux-gnu/qemu" \
        "$1/usr/bin/${3:-qemu-system-x86_64}" "$1/usr/share/qemu" "$1/usr/share/seabios" >"$stage.sh"
    chmod +x "$stage.sh"
    mv "$stage.sh" "$dir/bin/$2"
}

# virtiofsd, passt, QEMU and QEMU's scripts of Debian 13, below $dir/trixie.
install_private() {
    local package file home=$dir/trixie
    rm -rf "$stage"
    mkdir -p "$stage"/usr/{bin,lib,libexec,share}
    own_apt 'deb deb-src' trixie
    say "install-peers: getting virtiofsd, passt and QEMU of Debian 13 from $(mirror)"
    {
        apt-get -c "$work/apt.conf" update -qq &&
            apt-get -c "$work/apt.conf" install -qq -y --download-only --no-install-recommends \
                virtiofsd passt qemu-system-x86 patchelf &&
            (cd "$work/source" && apt-get -c "$work/apt.conf" source -qq --tar-only qemu)
    } >&2 ||
        die "can't download the Debian 13 packages; see apt's message above. Has the mirror the suite trixie?
  If it is a matter of keys, upgrade debian-archive-keyring"

    for package in "$work"/cache/archives/*.deb; do dpkg -x "$package" "$work/unpacked"; done
    # Only what is run: the rest has programs that are setuid root, for one thing.
    (
        cd "$work/unpacked/usr"
        cp -a bin/{passt,passt.avx2,passt-repair,qemu-system-x86_64,patchelf} "$stage/usr/bin"
        cp -a libexec/virtiofsd "$stage/usr/libexec"
        cp -a lib/x86_64-linux-gnu "$stage/usr/lib"
        cp -a share/{qemu,seabios} "$stage/usr/share"
    )
    # Real executables instead of a wrapper that calls ld.so, so that /proc/PID/comm and /proc/PID/exe are the peer's.
    # An rpath, not a runpath: it counts for the libraries' libraries as well, and no child process inherits it. passt
    # executes passt.avx2 beside itself where the processor allows, as it does when installed.
    relink "$home" "$stage"/usr/bin/{passt,passt.avx2,passt-repair,qemu-system-x86_64} "$stage/usr/libexec/virtiofsd"
    mkdir "$stage/scripts"
    tar -xf "$work"/source/qemu_*.orig.tar.xz -C "$stage/scripts" --strip-components=2 --wildcards "${scripts[@]/#/*/scripts/}"
    file=$(basename "$work"/source/qemu_*.orig.tar.xz .orig.tar.xz)
    file=${file#qemu_}
    printf '%s\n' "${file%%+*}" >"$stage/scripts/VERSION"

    rm -rf "$dir/peers.json" "$home" "$dir/share/qemu-scripts"
    mkdir -p "$dir"/{bin,share}
    mv "$stage/scripts" "$dir/share/qemu-scripts"
    mv "$stage" "$home"
    ln -sfn ../trixie/usr/libexec/virtiofsd "$dir/bin/virtiofsd"
    ln -sfn ../trixie/usr/bin/passt "$dir/bin/passt"
    ln -sfn ../trixie/usr/bin/passt-repair "$dir/bin/passt-repair"
    wrap_qemu "$home" qemu-system-x86_64-trixie
}

# QEMU of Debian 13's backports, below $dir/newer.
install_newer() {
    local package home=$dir/newer
    rm -rf "$stage"
    mkdir -p "$stage"/usr/{bin,lib,share}
    own_apt deb 'trixie trixie-backports'
    say "install-peers: getting QEMU of Debian 13's backports from $(mirror)"
    {
        apt-get -c "$work/apt.conf" update -qq &&
            apt-get -c "$work/apt.conf" install -qq -y --download-only --no-install-recommends \
                -t trixie-backports qemu-system-x86 patchelf seabios
    } >&2 || die "can't download QEMU from Debian 13's backports; see apt's message above"
    for package in "$work"/cache/archives/*.deb; do dpkg -x "$package" "$work/unpacked"; done
    (
        cd "$work/unpacked/usr"
        cp -a bin/{qemu-system-x86_64,patchelf} "$stage/usr/bin"
        cp -a lib/x86_64-linux-gnu "$stage/usr/lib"
        cp -a share/{qemu,seabios} "$stage/usr/share"
    )
    relink "$home" "$stage/usr/bin/qemu-system-x86_64"
    rm -rf "$dir/peers.json" "$home"
    mkdir -p "$dir/bin"
    mv "$stage" "$home"
    wrap_qemu "$home" qemu-system-x86_64-newer
}

# QEMUs of the suites $1, below $dir/$2: their programs get the suffix $3, the targets are the rest.
install_targets() {
    local suite=$1 home=$dir/$2 suffix=$3 package program
    shift 3
    rm -rf "$stage"
    mkdir -p "$stage"/usr/{bin,lib,share}
    own_apt deb "$suite"
    say "install-peers: getting QEMU for $* of $suite from $(mirror)"
    # Which package has a target's program changes from release to release.
    {
        apt-get -c "$work/apt.conf" update -qq &&
            apt-get -c "$work/apt.conf" install -qq -y --download-only --no-install-recommends patchelf seabios ipxe-qemu \
                $(apt-cache -c "$work/apt.conf" pkgnames qemu-system- |
                    grep -xE 'qemu-system-(x86|arm|ppc|misc|s390x|riscv)')
    } >&2 || die "can't download QEMU of $suite; see apt's message above"
    for package in "$work"/cache/archives/*.deb; do dpkg -x "$package" "$work/unpacked"; done
    (
        cd "$work/unpacked/usr"
        cp -a "${@/#/bin/qemu-system-}" bin/patchelf "$stage/usr/bin"
        cp -a lib/x86_64-linux-gnu "$stage/usr/lib"
        cp -a share/{qemu,seabios} "$stage/usr/share"
        # Where -L is given, QEMU does not look where Debian has the network cards' ROMs.
        [[ ! -d lib/ipxe/qemu ]] || cp -an lib/ipxe/qemu/. "$stage/usr/share/qemu"
    )
    # The loader lies in /lib where Debian's /usr is not merged yet.
    cp -an "$work"/unpacked/lib/x86_64-linux-gnu/. "$stage/usr/lib/x86_64-linux-gnu/" 2>/dev/null || true
    relink "$home" "${@/#/$stage/usr/bin/qemu-system-}"
    rm -rf "$dir/peers.json" "$home"
    mkdir -p "$dir/bin"
    mv "$stage" "$home"
    for program in "${@/#/qemu-system-}"; do wrap_qemu "$home" "$program$suffix" "$program"; done
}

# libvirt of Debian 12's backports, below $dir/libvirt: its libraries in usr, what it looks for by absolute paths in over.
install_libvirt() {
    local package home=$dir/libvirt
    rm -rf "$stage"
    mkdir -p "$stage"/usr/{bin,lib/x86_64-linux-gnu} "$stage"/over/{bin,sbin,lib/x86_64-linux-gnu,share} "$stage/etc"
    own_apt deb 'bookworm bookworm-backports'
    say "install-peers: getting libvirt of Debian 12's backports from $(mirror)"
    {
        apt-get -c "$work/apt.conf" update -qq &&
            apt-get -c "$work/apt.conf" install -qq -y --download-only --no-install-recommends -t bookworm-backports \
                libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients patchelf
    } >&2 || die "can't download libvirt of Debian 12's backports; see apt's message above"
    for package in "$work"/cache/archives/*.deb; do dpkg -x "$package" "$work/unpacked"; done
    (
        cd "$work/unpacked/usr"
        cp -a bin/patchelf "$stage/usr/bin"
        cp -a bin/virsh "$stage/over/bin"
        cp -a sbin/{libvirtd,virtlogd} "$stage/over/sbin"
        cp -a lib/libvirt "$stage/over/lib"
        cp -a lib/x86_64-linux-gnu/libvirt "$stage/over/lib/x86_64-linux-gnu"
        cp -a share/libvirt "$stage/over/share"
        cp -a ../etc/libvirt "$stage/etc"
        find lib/x86_64-linux-gnu ../lib/x86_64-linux-gnu -maxdepth 1 -name '*.so*' -exec cp -a -t "$stage/usr/lib/x86_64-linux-gnu" {} +
    )
    relink "$home" "$stage/over/bin/virsh" "$stage"/over/sbin/{libvirtd,virtlogd} "$stage/over/lib/libvirt/libvirt_iohelper"
    rm -rf "$dir/peers.json" "$home"
    mkdir -p "$dir/bin"
    mv "$stage" "$home"
    ln -sfn ../libvirt/over/sbin/libvirtd "$dir/bin/libvirtd"
    ln -sfn ../libvirt/over/bin/virsh "$dir/bin/virsh"
}

# Two test runs may start at once.
exec 9>"$dir/.lock"
flock 9
work='' stage=$dir/.trixie.new
trap 'rm -rf ${work:+"$work"} "$stage" "$stage.sh" "$dir/.peers.json.new"' EXIT

look() {
    found=$(inspect)
    mapfile -t lacking < <(sed -n 's/^lacking\t//p' <<<"$found" | sort -u)
}

look
if [[ ${#lacking[@]} -gt 0 ]]; then
    # Once here, because what fails in $(mirror) would go unnoticed.
    mirror >/dev/null
    install_packages "${lacking[@]}"
    [[ " ${lacking[*]} " != *' - '* ]] || install_private
    [[ " ${lacking[*]} " != *' -- '* ]] || install_newer
    [[ " ${lacking[*]} " != *' --- '* ]] || install_targets bookworm older -older x86_64 "${targets[@]}"
    [[ " ${lacking[*]} " != *' ---- '* ]] || install_targets trixie targets -trixie "${targets[@]}"
    [[ " ${lacking[*]} " != *' ----- '* ]] || install_libvirt
    look
    [[ ${#lacking[@]} -eq 0 ]] ||
        die "still absent, too old or not starting ('-' and '--' are what lies below $dir): ${lacking[*]}. Try them by hand"
fi

as_json <<<"$found" >"$dir/.peers.json.new"
cmp -s "$dir/.peers.json.new" "$dir/peers.json" || mv "$dir/.peers.json.new" "$dir/peers.json"
while IFS=$'\t' read -r name path version; do
    printf '%-26s %-36s %s\n' "$name" "$version" "$path"
done <<<"$found"
