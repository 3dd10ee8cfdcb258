using System.Globalization;
using System.Text;

namespace MigrationOps;

/// <summary>What is in a QEMU migration stream.</summary>
public sealed record MigrationStreamInfo
{
    /// <summary>The file, pipe or folder.</summary>
    public required string Path { get; init; }

    /// <summary>How it is stored: QEMU stream, libvirt save image, mapped-ram, multifd archive.</summary>
    public required string Format { get; init; }

    /// <summary>True if it was read to its end without a failure.</summary>
    public required bool Complete { get; init; }

    /// <summary>Why it could not be read further; empty if it could.</summary>
    public string Failure { get; init; } = "";

    /// <summary>The byte at which it could not be read further, or null.</summary>
    public long? FailureOffset { get; init; }

    /// <summary>The machine type, such as pc-q35-10.0; empty if the stream does not say.</summary>
    public required string MachineType { get; init; }

    /// <summary>The version of the stream's format.</summary>
    public required int Version { get; init; }

    /// <summary>The VM's UUID, if the stream has it.</summary>
    public Guid? Uuid { get; init; }

    /// <summary>The size of the target's pages in bytes.</summary>
    public required int PageSize { get; init; }

    /// <summary>What libvirt's header and XML say, if the stream is in a save image of libvirt; else null.</summary>
    public LibvirtImageInfo? Libvirt { get; init; }

    /// <summary>The capabilities that the stream names.</summary>
    public required string[] Capabilities { get; init; }

    /// <summary>Bytes of the main stream.</summary>
    public required long Length { get; init; }

    /// <summary>Sections in the order of the stream.</summary>
    public required MigrationStreamSection[] Sections { get; init; }

    /// <summary>PART sections beyond those that are listed.</summary>
    public long SectionsOmitted { get; init; }

    /// <summary>Blocks of guest memory.</summary>
    public required MigrationRamBlock[] RamBlocks { get; init; }

    /// <summary>Bytes of guest memory in all blocks.</summary>
    public long RamSize => RamBlocks.Sum(b => b.Size);

    /// <summary>Commands in the order of the stream.</summary>
    public required MigrationStreamCommand[] Commands { get; init; }

    /// <summary>Commands beyond those that are listed.</summary>
    public long CommandsOmitted { get; init; }

    /// <summary>Devices that were saved at once.</summary>
    public required MigrationStreamDevice[] Devices { get; init; }

    /// <summary>Recorded multifd channels.</summary>
    public MigrationStreamChannel[] Channels { get; init; } = [];

    /// <summary>True if the stream has the commands of postcopy.</summary>
    public bool Postcopy { get; init; }

    /// <summary>Where the description lies, or null if there is none.</summary>
    public long? DescriptionOffset { get; init; }

    /// <summary>Bytes after the stream's end.</summary>
    public long TrailingBytes { get; init; }

    /// <summary>What is unusual about the stream without keeping QEMU from loading it: no footers, no description, something behind it.</summary>
    public string[] Notes { get; init; } = [];
}

/// <summary>A section of a migration stream.</summary>
public sealed record MigrationStreamSection
{
    /// <summary>Start, Part, End or Full.</summary>
    public required string Kind { get; init; }

    /// <summary>The number under which the handler's sections come.</summary>
    public required long Id { get; init; }

    /// <summary>The handler's name.</summary>
    public required string IdStr { get; init; }

    /// <summary>Which of several with that name.</summary>
    public required long InstanceId { get; init; }

    /// <summary>The version of the body's layout.</summary>
    public required long Version { get; init; }

    /// <summary>Where it starts in the stream.</summary>
    public required long Offset { get; init; }

    /// <summary>Bytes from its type to its footer.</summary>
    public required long Length { get; init; }

    /// <summary>Where its body starts in the stream.</summary>
    public required long BodyOffset { get; init; }

    /// <summary>Bytes of its body.</summary>
    public required long BodyLength { get; init; }
}

/// <summary>A block of guest memory in a migration stream.</summary>
public sealed record MigrationRamBlock
{
    /// <summary>Its name.</summary>
    public required string Name { get; init; }

    /// <summary>Its size in bytes.</summary>
    public required long Size { get; init; }

    /// <summary>Its pages.</summary>
    public required long Pages { get; init; }

    /// <summary>Pages that came with their bytes (of any encoding).</summary>
    public required long NormalPages { get; init; }

    /// <summary>Pages that came as zero.</summary>
    public required long ZeroPages { get; init; }

    /// <summary>Pages that came more than once: dirtied while the VM ran.</summary>
    public required long DuplicatePages { get; init; }

    /// <summary>Of the normal ones, pages that came as changes (XBZRLE).</summary>
    public required long XbzrlePages { get; init; }

    /// <summary>Of the normal ones, pages that came compressed one by one.</summary>
    public required long CompressedPages { get; init; }

    /// <summary>Of all, pages that came over multifd channels.</summary>
    public required long MultifdPages { get; init; }

    /// <summary>Pages filled with another byte than zero.</summary>
    public long FilledPages { get; init; }

    /// <summary>Pages that are missing, or null if that could not be told within the memory allowed.</summary>
    public required long? MissingPages { get; init; }

    /// <summary>A hash over which page came when, and how; equal for copies of one stream.</summary>
    public string PageOrder { get; init; } = "";

    /// <summary>The guest-physical address, with x-ignore-shared.</summary>
    public ulong? Address { get; init; }

    /// <summary>The host page size, for huge pages with postcopy.</summary>
    public long? HostPageSize { get; init; }

    /// <summary>Where mapped-ram has the bitmap, or null.</summary>
    public long? BitmapOffset { get; init; }

    /// <summary>Where mapped-ram has the pages, or null.</summary>
    public long? PagesOffset { get; init; }
}

/// <summary>A command in a migration stream.</summary>
public sealed record MigrationStreamCommand
{
    /// <summary>Its name.</summary>
    public required string Name { get; init; }

    /// <summary>Where it lies.</summary>
    public required long Offset { get; init; }

    /// <summary>What it carries, as hexadecimal text.</summary>
    public required string Data { get; init; }
}

/// <summary>A recorded multifd channel.</summary>
public sealed record MigrationStreamChannel
{
    /// <summary>Its file.</summary>
    public required string Path { get; init; }

    /// <summary>Its number.</summary>
    public required int Id { get; init; }

    /// <summary>Its length in bytes.</summary>
    public required long Length { get; init; }

    /// <summary>Packets.</summary>
    public required long Packets { get; init; }

    /// <summary>Packets with the SYNC flag.</summary>
    public required long SyncPackets { get; init; }

    /// <summary>Pages of RAM.</summary>
    public required long Pages { get; init; }

    /// <summary>none, zlib, zstd, qpl, uadk or qatzip.</summary>
    public required string Compression { get; init; }

    /// <summary>Devices whose state came over it, each as IdStr with packets and bytes.</summary>
    public required string[] Devices { get; init; }

    /// <summary>What QEMU accepts and no QEMU writes, such as unknown flags.</summary>
    public string[] Warnings { get; init; } = [];
}

/// <summary>A device that was saved at once.</summary>
public sealed record MigrationStreamDevice
{
    /// <summary>The stream it is from.</summary>
    public required string Path { get; init; }

    /// <summary>Its name in the stream.</summary>
    public required string IdStr { get; init; }

    /// <summary>Which of several with that name.</summary>
    public required long InstanceId { get; init; }

    /// <summary>Its section's number.</summary>
    public required long SectionId { get; init; }

    /// <summary>The name of its layout, such as virtio-net; empty if the stream does not say.</summary>
    public required string Layout { get; init; }

    /// <summary>The version of its layout.</summary>
    public required long Version { get; init; }

    /// <summary>Where its state starts in the stream.</summary>
    public required long Offset { get; init; }

    /// <summary>Bytes of its state.</summary>
    public required long Length { get; init; }

    /// <summary>Its decoded fields; empty unless asked for.</summary>
    public MigrationStreamField[] Fields { get; init; } = [];

    /// <summary>The field of that name; null if there is none.</summary>
    public MigrationStreamField? this[string name] => Array.Find(Fields, f => f.Name == name);

    /// <summary>The fields as indented lines. A property, so that jobs and remoting keep it.</summary>
    public string Tree
    {
        get
        {
            var text = new StringBuilder();
            foreach (var member in Fields)
            {
                member.AppendTo(text, 1);
            }

            return text.ToString().TrimEnd();
        }
    }
}

/// <summary>A decoded value of a device's state, or a structure of them.</summary>
public sealed record MigrationStreamField
{
    // What fits a line; the property has all of it.
    private const int LongValue = 64;

    /// <summary>Its name.</summary>
    public required string Name { get; init; }

    /// <summary>The kind of value.</summary>
    public required string Type { get; init; }

    /// <summary>A number, a bool, hexadecimal text for bytes; null for a structure.</summary>
    public object? Value { get; init; }

    /// <summary>What the value means, where that is known: names of features and status bits.</summary>
    public string Meaning { get; init; } = "";

    /// <summary>Where it lies in the stream.</summary>
    public required long Offset { get; init; }

    /// <summary>Its bytes in the stream.</summary>
    public required long Size { get; init; }

    /// <summary>The members of a structure.</summary>
    public MigrationStreamField[] Fields { get; init; } = [];

    /// <summary>The member of that name; null if there is none.</summary>
    public MigrationStreamField? this[string name] => Array.Find(Fields, f => f.Name == name);

    internal void AppendTo(StringBuilder text, int depth)
    {
        text.Append(' ', 2 * depth).Append(Name);
        if (Fields.Length == 0)
        {
            string value = Convert.ToString(Value, CultureInfo.InvariantCulture) ?? "";
            text.Append(" = ").Append(value.Length > LongValue ? $"{value.AsSpan(0, LongValue)}… ({Size:N0} bytes)" : value);
            text.Append(Meaning.Length > 0 ? $" ({Meaning})" : "");
        }

        text.Append('\n');
        foreach (var member in Fields)
        {
            member.AppendTo(text, depth + 1);
        }
    }

    /// <summary>A line for the console.</summary>
    public override string ToString() => Fields.Length > 0 ? $"{Name} ({Fields.Length} members)" : $"{Name} = {Value}{(Meaning.Length > 0 ? $" ({Meaning})" : "")}";
}

/// <summary>A difference between two streams, or between a stream and what a QEMU can load.</summary>
public sealed record MigrationStreamDifference
{
    /// <summary>What keeps the stream from loading (Error), what may (Warning), what merely differs (Value).</summary>
    public required string Severity { get; init; }

    /// <summary>The device or the part of the stream.</summary>
    public required string Device { get; init; }

    /// <summary>The path of the field within the device; empty for the device as a whole.</summary>
    public required string Field { get; init; }

    /// <summary>What differs.</summary>
    public required string Detail { get; init; }

    /// <summary>In the first.</summary>
    public string Reference { get; init; } = "";

    /// <summary>In the second.</summary>
    public string Difference { get; init; } = "";

    /// <summary>How many fields say the same; more than one for elements of an array, of which the field is the first.</summary>
    public int Count { get; init; } = 1;
}

/// <summary>Something that was exported from a stream.</summary>
public sealed record MigrationStreamExport
{
    /// <summary>The stream.</summary>
    public required string Source { get; init; }

    /// <summary>The device, section or RAM block.</summary>
    public required string Device { get; init; }

    /// <summary>vhost-user, vfio, section or ram.</summary>
    public required string Kind { get; init; }

    /// <summary>The file that was written.</summary>
    public required string Path { get; init; }

    /// <summary>Bytes of state, or of the RAM block.</summary>
    public required long Bytes { get; init; }

    /// <summary>SHA-256 of these bytes, lower-case hexadecimal; null for RAM.</summary>
    public required string? Sha256 { get; init; }

    /// <summary>True for bare bytes without the state file's frame.</summary>
    public required bool Raw { get; init; }
}
