namespace MigrationOps.Engine.SaveVm;

/// <summary>The numbers of QEMU's migration stream that the drivers write and read.</summary>
internal static class SaveVmFormat
{
    internal const uint Magic = 0x5145564d;
    internal const uint Version = 3;
    internal const uint ObsoleteVersion = 2;

    internal const byte Eof = 0x00;
    internal const byte Subsection = 0x05;
    internal const byte Description = 0x06;
    internal const byte Configuration = 0x07;
    internal const byte Command = 0x08;
    internal const byte Footer = 0x7e;

    /// <summary>The idstr of a machine's memory.</summary>
    internal const string Ram = "ram";

    /// <summary>The length of an idstr stands in one byte.</summary>
    internal const int MaxIdStr = 255;

    internal const int MaxMachineType = 4096;
    internal const int MaxCapabilities = 256;

    /// <summary>The most sections that are kept unread: each takes memory.</summary>
    internal const int MaxSections = 65536;

    /// <summary>The longest description that is read through: QEMU's own script stops at 10 MiB.</summary>
    internal const int MaxDescription = 16 << 20;

    /// <summary>No element - header, command, configuration with its subsections - is longer than this.</summary>
    internal const int MaxElement = 96 << 10;
}

/// <summary>The types of section, as their byte in the stream.</summary>
internal enum SaveVmSectionType : byte
{
    Start = 0x01,
    Part = 0x02,
    End = 0x03,
    Full = 0x04,
}

/// <summary>The commands in the main stream.</summary>
internal enum SaveVmCommand : ushort
{
    OpenReturnPath = 1,
    Ping = 2,
    PostcopyAdvise = 3,
    PostcopyListen = 4,
    PostcopyRun = 5,
    PostcopyRamDiscard = 6,
    Packaged = 7,
    EnableColo = 8,
    PostcopyResume = 9,
    ReceivedBitmap = 10,
    SwitchoverStart = 11,
}

/// <summary>The messages of the return path.</summary>
internal enum ReturnPathMessageType : ushort
{
    Shut = 1,
    Pong = 2,
    RequestPagesWithId = 3,
    RequestPages = 4,
    ReceivedBitmap = 5,
    ResumeAck = 6,
    SwitchoverAck = 7,
}
