using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>What a connection of a migration is, as far as its first bytes tell.</summary>
internal enum ChannelKind
{
    /// <summary>None of those that start with a magic: the channel of postcopy-preempt, or a main stream that is resumed.</summary>
    Other,

    /// <summary>The main stream.</summary>
    Main,

    /// <summary>A multifd channel.</summary>
    Multifd,

    /// <summary>A connection inside TLS: a handshake begins.</summary>
    Tls,
}

/// <summary>Tells the connections of a migration apart.</summary>
internal static class ChannelKinds
{
    /// <summary>How many bytes that takes.</summary>
    internal const int Length = sizeof(uint);

    // The record type of a handshake, and the major version of every TLS.
    private const uint TlsHandshake = 0x1603;

    /// <summary>What begins with these bytes.</summary>
    /// <param name="first">The first <see cref="Length"/> bytes, or all there are if the connection has fewer.</param>
    internal static ChannelKind Of(ReadOnlySpan<byte> first)
    {
        var reader = WireReader.BigEndian(first);
        return !reader.TryReadUInt32(out uint word) ? ChannelKind.Other
            : word == StreamFormat.Magic ? ChannelKind.Main
            : word == ChannelInit.Magic ? ChannelKind.Multifd
            : word >> 16 == TlsHandshake ? ChannelKind.Tls
            : ChannelKind.Other;
    }
}
