namespace MigrationOps.Engine.Qemu;

/// <summary>The numbers of QEMU's migration stream.</summary>
internal static class StreamFormat
{
    internal const uint Magic = 0x5145564d;
    internal const uint Version = 3;
    internal const uint ObsoleteVersion = 2;

    /// <summary>The bytes of <see cref="Magic"/>, for whoever looks for a stream in a file.</summary>
    internal static ReadOnlySpan<byte> MagicBytes => "QEVM"u8;

    /// <summary>The bytes of <see cref="Magic"/> and <see cref="Version"/>.</summary>
    internal static ReadOnlySpan<byte> HeaderBytes => "QEVM\0\0\0\x03"u8;

    internal const byte Eof = 0x00;
    internal const byte Start = 0x01;
    internal const byte Part = 0x02;
    internal const byte End = 0x03;
    internal const byte Full = 0x04;
    internal const byte Subsection = 0x05;
    internal const byte Description = 0x06;
    internal const byte Configuration = 0x07;
    internal const byte Command = 0x08;
    internal const byte Footer = 0x7e;

    /// <summary>Every machine type without a target-page-bits subsection has pages of this size, unless its description says otherwise.</summary>
    internal const int DefaultPageSize = 4096;

    /// <summary>log2 of the smallest page of any of QEMU's targets: avr has 256 bytes.</summary>
    internal const int MinPageBits = 8;

    /// <summary>log2 of the largest page of any of QEMU's targets.</summary>
    internal const int MaxPageBits = 16;

    /// <summary>The smallest page of any target.</summary>
    internal const int MinPageSize = 1 << MinPageBits;

    /// <summary>The largest page of any target.</summary>
    internal const int MaxPageSize = 1 << MaxPageBits;

    /// <summary>Bytes of a command before its data, and of the description before its JSON.</summary>
    internal const int ElementHeader = 5;

    internal const int MaxMachineType = 4096;
    internal const int MaxCapabilities = 256;

    /// <summary>The most sections that are kept in mind: each takes memory.</summary>
    internal const int MaxSections = 65536;

    /// <summary>The longest description that is read: QEMU's own script stops at 10 MiB.</summary>
    internal const int MaxDescription = 16 << 20;

    /// <summary>No element - header, command, configuration with its subsections - is longer than this.</summary>
    internal const int MaxElement = 96 << 10;

    /// <summary>The idstr of a machine's memory.</summary>
    internal const string Ram = "ram";

    internal const string IgnoreSharedCapability = "x-ignore-shared";
    internal const string MappedRamCapability = "mapped-ram";

    /// <summary>Whether a target can have pages of this size: a power of two from 2^<see cref="MinPageBits"/> to 2^<see cref="MaxPageBits"/>.</summary>
    internal static bool IsPageSize(long size) => long.IsPow2(size) && size is >= 1 << MinPageBits and <= MaxPageSize;
}

/// <summary>The commands that travel in the stream.</summary>
internal enum StreamCommandId
{
    /// <summary>The target shall open the return path.</summary>
    OpenReturnPath = 1,

    /// <summary>Asks for a pong on the return path.</summary>
    Ping = 2,

    /// <summary>Postcopy may come; carries the page sizes.</summary>
    PostcopyAdvise = 3,

    /// <summary>The target shall listen for page requests.</summary>
    PostcopyListen = 4,

    /// <summary>The target shall run.</summary>
    PostcopyRun = 5,

    /// <summary>Pages that the target shall forget.</summary>
    PostcopyRamDiscard = 6,

    /// <summary>A stream in the stream.</summary>
    Packaged = 7,

    /// <summary>COLO follows.</summary>
    EnableColo = 8,

    /// <summary>Postcopy resumes after a break.</summary>
    PostcopyResume = 9,

    /// <summary>Asks for the bitmap of received pages of a block.</summary>
    ReceivedBitmap = 10,

    /// <summary>The source has stopped; device state follows.</summary>
    SwitchoverStart = 11,
}
