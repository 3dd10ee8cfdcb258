namespace MigrationOps.Engine.SaveVm;

/// <summary>What the drivers know about the stream beside its numbers, which stand in <see cref="Qemu.StreamFormat"/>.</summary>
internal static class SaveVmFormat
{
    /// <summary>The idstr of a machine's memory.</summary>
    internal const string Ram = "ram";

    /// <summary>The length of an idstr stands in one byte.</summary>
    internal const int MaxIdStr = 255;

    /// <summary>No element - header, command, configuration with its subsections - is longer than this.</summary>
    internal const int MaxElement = 96 << 10;
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
