namespace MigrationOps.Engine.Streams;

/// <summary>A kind of file that is told by fixed bytes.</summary>
/// <param name="Offset">Where they are.</param>
/// <param name="Magic">The bytes.</param>
/// <param name="What">What the file is, with its article.</param>
/// <param name="Action">What to do with it.</param>
internal sealed record ForeignKind(int Offset, byte[] Magic, string What, string Action);

/// <summary>The kinds of files that lie where migration streams do.</summary>
internal static class ForeignKinds
{
    internal const string DiskAction = "A disk holds no VM state that can be read here. Give the file that the state was saved to.";
    internal const string VmdkName = "a VMDK disk image";
    internal const string VhdName = "a VHD disk image";

    private const string DumpAction = "Read it with crash or makedumpfile. No VM can be started from it; save the VM with migrate.";
    private const string OtherVmmAction = "QEMU cannot load it. Load it with the program that wrote it, or move the VM while it is shut down.";
    private const string CriuAction = "It is the state of a process, not of a VM. Restore its folder with criu restore.";
    private const string UnpackAction = "Unpack it first.";
    private const string SleepAction = "The guest wrote it for itself: it resumes when the VM is started with this disk. No migration stream can be had from it.";

    internal static readonly ForeignKind[] All =
    [
        new(0, "KDUMP   "u8.ToArray(), "a kdump-compressed dump, as QEMU's dump-guest-memory writes with a format of kdump", DumpAction),
        new(0, "DISKDUMP"u8.ToArray(), "a diskdump-compressed dump", DumpAction),
        new(0, "makedumpfile\0\0\0\0"u8.ToArray(), "a flattened kdump-compressed dump, as QEMU's dump-guest-memory writes with a format of kdump", "Rearrange it with makedumpfile -R, and read it with crash. No VM can be started from it; save the VM with migrate."),
        new(0, "PAGEDU64"u8.ToArray(), "a Windows crash dump (dump-guest-memory -w)", "Read it with WinDbg. No VM can be started from it; save the VM with migrate."),
        new(0, "PAGEDUMP"u8.ToArray(), "a Windows crash dump (dump-guest-memory -w)", "Read it with WinDbg. No VM can be started from it; save the VM with migrate."),
        new(0, [0x11, 0x22, 0x33, 0x44], "a recorded multifd channel without its main stream", "Give the folder that holds the main stream and all channels."),
        new(0, "QCPR"u8.ToArray(), "a CPR state of QEMU, which lists descriptors", "Read it as a set of descriptors."),
        new(0, "MOPSTATE"u8.ToArray(), "a device state file of this module", "Check it as a device state."),
        new(0, "KDMV"u8.ToArray(), VmdkName, DiskAction),
        new(0, "COWD"u8.ToArray(), VmdkName, DiskAction),
        new(0, "QED\0"u8.ToArray(), "a QED disk image", DiskAction),
        new(0x40, [0x7f, 0x10, 0xda, 0xbe], "a VDI disk image of VirtualBox", DiskAction),
        new(0, "\u007fVirtualBox SavedState"u8.ToArray(), "a saved state of VirtualBox", OtherVmmAction),
        new(0, "vhdxfile"u8.ToArray(), "a VHDX disk image", DiskAction),
        new(0, "conectix"u8.ToArray(), VhdName, DiskAction),
        new(0, "WithoutFreeSpace"u8.ToArray(), "a Parallels disk image", DiskAction),
        new(0, "WithouFreSpacExt"u8.ToArray(), "a Parallels disk image", DiskAction),
        new(0, [(byte)'L', (byte)'U', (byte)'K', (byte)'S', 0xba, 0xbe], "a LUKS-encrypted volume", "Open it with cryptsetup, and give the device below /dev/mapper."),
        new(0, "OOOM"u8.ToArray(), "a UML copy-on-write image", DiskAction),
        new(0, "Xen saved domain"u8.ToArray(), "a saved domain of Xen (xl save)", OtherVmmAction),
        new(0, "LinuxGuestRecord"u8.ToArray(), "a saved domain of Xen (xm save)", OtherVmmAction),
        new(0, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, (byte)'X', (byte)'E', (byte)'N', (byte)'F'], "a migration stream of Xen (libxc)", OtherVmmAction),
        new(0, "libvirt-xml"u8.ToArray(), "a saved domain of libvirt's Xen driver", OtherVmmAction),
        new(0, "DeviceModelRecord"u8.ToArray(), "a device model record of Xen", OtherVmmAction),
        new(0, [0xd0, 0xbe, 0xd2, 0xbe], "a suspended state of VMware (vmss, vmsn)", OtherVmmAction),
        new(0, [0xd1, 0xba, 0xd1, 0xba], "a suspended state of VMware (vmss, vmsn)", OtherVmmAction),
        new(0, [0xd2, 0xbe, 0xd2, 0xbe], "a suspended state of VMware (vmss, vmsn)", OtherVmmAction),
        new(0, [0xd3, 0xbe, 0xd3, 0xbe], "a suspended state of VMware (vmss, vmsn)", OtherVmmAction),
        new(0, [0x00, 0x00, 0x64, 0x86, 0x84, 0x19, 0x10, 0x07], "a snapshot of Firecracker", OtherVmmAction),
        new(0, [0x00, 0x00, 0xaa, 0xaa, 0x84, 0x19, 0x10, 0x07], "a snapshot of Firecracker", OtherVmmAction),
        new(0, "hibr"u8.ToArray(), "a hibernation image of Windows", SleepAction),
        new(0, "HIBR"u8.ToArray(), "a hibernation image of Windows", SleepAction),
        new(0, "wake"u8.ToArray(), "a hibernation image of Windows", SleepAction),
        new(0, "RSTR"u8.ToArray(), "a hibernation image of Windows", SleepAction),
        new(4086, "S1SUSPEND\0"u8.ToArray(), "a hibernation image of Linux in a swap area", SleepAction),
        new(4086, "S2SUSPEND\0"u8.ToArray(), "a hibernation image of Linux in a swap area", SleepAction),
        new(4086, "ULSUSPEND\0"u8.ToArray(), "a hibernation image of Linux (uswsusp) in a swap area", SleepAction),
        new(4086, "LINHIB0001"u8.ToArray(), "a hibernation image of Linux in a swap area", SleepAction),
        new(4086, "SWAPSPACE2"u8.ToArray(), "a swap area", DiskAction),
        new(4086, "SWAP-SPACE"u8.ToArray(), "a swap area", DiskAction),
        new(512, "LABELONE"u8.ToArray(), "a physical volume of LVM", "Give the logical volume that the state was saved to."),
        new(0, "VMA\0"u8.ToArray(), "a backup archive of Proxmox (VMA)", "Extract it with vma extract. It holds disks and configuration; the VM state is a volume vm-ID-state-NAME."),
        new(0, "XFSB"u8.ToArray(), "an XFS file system", DiskAction),
        new(257, "ustar"u8.ToArray(), "a tar archive", UnpackAction),
        new(0, "070701"u8.ToArray(), "a cpio archive", UnpackAction),
        new(0, "070702"u8.ToArray(), "a cpio archive", UnpackAction),
        new(0, "070707"u8.ToArray(), "a cpio archive", UnpackAction),
        new(0, [0xc7, 0x71], "a cpio archive", UnpackAction),
        new(0, "!<arch>\n"u8.ToArray(), "an ar archive or a Debian package", UnpackAction),
        new(0, "hsqs"u8.ToArray(), "a squashfs file system", DiskAction),
        new(0, [0x19, 0x43, 0x56, 0x54], "an image of CRIU", CriuAction),
        new(0, [0x40, 0x59, 0x10, 0x55], "an image of CRIU", CriuAction),
        new(0, "PK\x03\x04"u8.ToArray(), "a ZIP archive", UnpackAction),
        new(0, "Rar!"u8.ToArray(), "a RAR archive", UnpackAction),
        new(0, [(byte)'7', (byte)'z', 0xbc, 0xaf, 0x27, 0x1c], "a 7-Zip archive", UnpackAction),
        new(0, [0x04, 0x22, 0x4d, 0x18], "compressed with lz4, which is not read here", "Decompress it first: lz4 -d FILE."),
        new(0, [0x1f, 0x9d], "compressed with compress, which is not read here", "Decompress it first: gzip -dc FILE."),
        new(0, "LZIP"u8.ToArray(), "compressed with lzip, which is not read here", "Decompress it first: lzip -d FILE."),
        new(0, [0x5d, 0, 0], "compressed with lzma, which is not read here", "Decompress it first: xz --format=lzma -d FILE."),
        new(0, "Salted__"u8.ToArray(), "encrypted with openssl", "Decrypt it first: openssl enc -d."),
        new(0, "-----BEGIN PGP"u8.ToArray(), "encrypted with PGP", "Decrypt it first: gpg -d."),
        new(0, [0x16, 0x03], "a recorded TLS connection", "Record the stream where it is not encrypted: what TLS carried cannot be read without its keys."),
        new(0, [0xd4, 0xc3, 0xb2, 0xa1], "a packet capture (pcap)", "Take the TCP stream of the migration out of it, for instance with tshark -z follow,tcp,raw."),
        new(0, [0x0a, 0x0d, 0x0d, 0x0a], "a packet capture (pcapng)", "Take the TCP stream of the migration out of it, for instance with tshark -z follow,tcp,raw."),
    ];

    /// <summary>What lies further in than a file's start.</summary>
    internal static readonly (long Offset, byte[] Magic, string What)[] FarMagics =
    [
        (0x8001, "CD001"u8.ToArray(), "an ISO 9660 image"),
        (0x438, [0x53, 0xef], "an ext2, ext3 or ext4 file system"),
        (0x10040, "_BHRfS_M"u8.ToArray(), "a btrfs file system"),
        (65_526, "SWAPSPACE2"u8.ToArray(), "a swap area"),
        (65_526, "S1SUSPEND\0"u8.ToArray(), "a hibernation image of Linux in a swap area"),
    ];
}
