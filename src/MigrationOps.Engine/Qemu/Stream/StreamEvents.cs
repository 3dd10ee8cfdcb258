using System.Buffers.Binary;

namespace MigrationOps.Engine.Qemu;

/// <summary>What a section is to its handler.</summary>
internal enum SectionKind
{
    /// <summary>The first of an iterative handler.</summary>
    Start = StreamFormat.Start,

    /// <summary>One iteration.</summary>
    Part = StreamFormat.Part,

    /// <summary>The last of an iterative handler.</summary>
    End = StreamFormat.End,

    /// <summary>A device saved at once.</summary>
    Full = StreamFormat.Full,
}

/// <summary>A section of the stream as its header announces it.</summary>
/// <param name="Kind">What it is to its handler.</param>
/// <param name="Id">The number under which later sections of the handler come.</param>
/// <param name="IdStr">The handler's name, such as "ram" or "0000:00:02.0/virtio-net".</param>
/// <param name="InstanceId">Which of several with that name.</param>
/// <param name="VersionId">The version of the body's layout.</param>
/// <param name="Offset">Where its type byte lies in the stream.</param>
/// <param name="BodyOffset">Where its body starts in the stream.</param>
internal sealed record StreamSection(
    SectionKind Kind, uint Id, string IdStr, uint InstanceId, uint VersionId, long Offset, long BodyOffset) : StreamElement(Offset)
{
    /// <summary>How errors call it.</summary>
    public string Display => InstanceId == 0 ? $"{IdStr} ({Id})" : $"{IdStr}#{InstanceId} ({Id})";
}

/// <summary>What the CONFIGURATION section says.</summary>
/// <param name="MachineType">The machine type, such as pc-q35-10.0.</param>
/// <param name="PageBits">log2 of the target's page size, or null if the stream does not say.</param>
/// <param name="Capabilities">The capabilities that change the format.</param>
/// <param name="Uuid">The VM's UUID, if x-validate-uuid was on.</param>
/// <param name="Offset">Where its type byte lies.</param>
internal sealed record StreamConfiguration(
    string MachineType, int? PageBits, IReadOnlyList<string> Capabilities, Guid? Uuid, long Offset) : StreamElement(Offset);

/// <summary>A command in the stream.</summary>
/// <param name="Id">Which one.</param>
/// <param name="Offset">Where its type byte lies.</param>
/// <param name="Data">What it carries.</param>
internal sealed record StreamCommand(StreamCommandId Id, long Offset, byte[] Data) : StreamElement(Offset)
{
    /// <summary>The number in PING and PACKAGED; 0 in commands without one.</summary>
    public uint Value => Data.Length == sizeof(uint) ? BinaryPrimitives.ReadUInt32BigEndian(Data) : 0;

    /// <summary>Where what follows it lies.</summary>
    internal long End => Offset + StreamFormat.ElementHeader + Data.Length;
}

/// <summary>A block of guest memory as the stream lists it.</summary>
/// <param name="Index">Its place in the list, from 0.</param>
/// <param name="Name">Its name, such as pc.ram.</param>
/// <param name="Length">Its length in bytes.</param>
internal sealed record RamBlock(int Index, string Name, long Length)
{
    internal byte[] NameBytes { get; init; } = [];

    /// <summary>The guest-physical address that x-ignore-shared adds.</summary>
    public ulong? Address { get; init; }

    /// <summary>The host page size that postcopy adds for a block of huge pages.</summary>
    public long? HostPageSize { get; init; }

    /// <summary>Where mapped-ram puts the bitmap of written pages, as an offset in this stream.</summary>
    public long? BitmapOffset { get; init; }

    /// <summary>Where mapped-ram puts page 0, as an offset in this stream.</summary>
    public long? PagesOffset { get; init; }
}

/// <summary>How a page of RAM lies in the stream.</summary>
internal enum RamPageKind
{
    /// <summary>All bytes of the page.</summary>
    Normal,

    /// <summary>One byte that fills the page; QEMU writes 0 only.</summary>
    Fill,

    /// <summary>The changes against what was sent before.</summary>
    Xbzrle,

    /// <summary>One zlib stream (QEMU before 9.1).</summary>
    Compressed,
}

/// <summary>The markers of a VFIO device's section.</summary>
internal enum VfioMarker : ulong
{
    /// <summary>The section's data ends.</summary>
    EndOfState = 0xffffffffef100001,

    /// <summary>Config space follows.</summary>
    ConfigState = 0xffffffffef100002,

    /// <summary>Set-up.</summary>
    SetupState = 0xffffffffef100003,

    /// <summary>A length and so many bytes of device state follow.</summary>
    DataState = 0xffffffffef100004,

    /// <summary>The initial data has been sent (switchover-ack); the section's data ends.</summary>
    InitDataSent = 0xffffffffef100005,
}
