namespace MigrationOps.Engine.Multifd;

/// <summary>The kinds of section in a migration's main stream, by their type byte.</summary>
public enum SectionKind : byte
{
    /// <summary>End of the sections.</summary>
    End = 0,

    /// <summary>Setup of an iterable device.</summary>
    Start = 1,

    /// <summary>Pre-copy data of an iterable device.</summary>
    Part = 2,

    /// <summary>Last data of an iterable device.</summary>
    Last = 3,

    /// <summary>The whole state of a device.</summary>
    Full = 4,
}

/// <summary>A section's name in the stream.</summary>
/// <param name="Id">Number of the section; PART and END have nothing else.</param>
/// <param name="IdStr">Name of the device.</param>
/// <param name="InstanceId">Number among the devices of that name.</param>
/// <param name="Version">Version of the section.</param>
public sealed record SectionInfo(uint Id, string IdStr, uint InstanceId, uint Version);

/// <summary>Understands the body of one device's sections, which have no length of their own.</summary>
public interface ISectionBody
{
    /// <summary>A section of the device begins.</summary>
    /// <param name="kind">Which.</param>
    /// <param name="offset">Where its body starts in the stream.</param>
    void Begin(SectionKind kind, long offset);

    /// <summary>Takes bytes of the body.</summary>
    /// <param name="data">What has arrived from the current position on; it may reach beyond the body.</param>
    /// <param name="ended">True if the body ended within the bytes used.</param>
    /// <returns>Bytes used; 0 if more are needed.</returns>
    int Parse(ReadOnlySpan<byte> data, out bool ended);
}

/// <summary>Hears what passes in the main stream, in order.</summary>
public interface IMainStreamObserver
{
    /// <summary>An iterable section starts. Whoever knows its body returns the reader of it.</summary>
    ISectionBody? OpenSection(SectionInfo section);

    /// <summary>The source wants the return path.</summary>
    void ReturnPathOpened();

    /// <summary>The source wants an answer.</summary>
    void Ping(uint value);

    /// <summary>RAM waits here for the SYNC packet of every channel.</summary>
    void Flushed();

    /// <summary>The source has stopped; what follows is the last state of every device.</summary>
    void SwitchedOver();
}
