using System.Buffers.Binary;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Vhost;

/// <summary>The 12-byte header of every vhost-user message, in the host's byte order (little-endian here).</summary>
/// <param name="Request">Message id.</param>
/// <param name="Flags">Bits 0-1 version, bit 2 reply, bit 3 need_reply.</param>
/// <param name="Size">Bytes of payload that follow.</param>
internal readonly record struct VhostUserHeader(VhostUserRequest Request, uint Flags, uint Size)
{
    /// <summary>Bytes of the header.</summary>
    public const int Length = 12;

    /// <summary>The protocol's version.</summary>
    public const uint Version = 1;

    /// <summary>The version's bits in the flags.</summary>
    public const uint VersionMask = 3;

    /// <summary>The message answers a request.</summary>
    public const uint ReplyFlag = 4;

    /// <summary>The message asks for an acknowledgement.</summary>
    public const uint NeedReplyFlag = 8;

    /// <summary>No message of the protocol has a longer payload.</summary>
    public const uint MaxPayload = 4096;

    /// <summary>True if the version's bits say 1.</summary>
    public bool HasKnownVersion => (Flags & VersionMask) == Version;

    /// <summary>True if it answers a request.</summary>
    public bool IsReply => (Flags & ReplyFlag) != 0;

    /// <summary>True if it asks for an acknowledgement.</summary>
    public bool NeedsReply => (Flags & NeedReplyFlag) != 0;

    /// <summary>Reads a header.</summary>
    /// <param name="reader">Of little-endian integers.</param>
    /// <param name="header">The header.</param>
    internal static bool TryRead(ref WireReader reader, out VhostUserHeader header)
    {
        var r = reader;
        header = default;
        if (!r.TryReadUInt32(out uint request) || !r.TryReadUInt32(out uint flags) || !r.TryReadUInt32(out uint size))
        {
            return false;
        }

        header = new VhostUserHeader((VhostUserRequest)request, flags, size);
        reader = r;
        return true;
    }

    /// <summary>Makes the bytes of a whole message.</summary>
    public static byte[] Compose(VhostUserRequest request, uint flags, ReadOnlySpan<byte> payload)
    {
        byte[] message = new byte[Length + payload.Length];
        BinaryPrimitives.WriteUInt32LittleEndian(message, (uint)request);
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(4), flags);
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(8), (uint)payload.Length);
        payload.CopyTo(message.AsSpan(Length));
        return message;
    }

    /// <summary>The bytes of a 64-bit payload.</summary>
    public static byte[] Payload(ulong value)
    {
        byte[] bytes = new byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        return bytes;
    }

    /// <summary>The name of a message as the protocol's document writes it.</summary>
    public static string NameOf(VhostUserRequest request)
    {
        if (!Enum.IsDefined(request))
        {
            return $"request {(uint)request}";
        }

        string name = request.ToString();
        return string.Concat(name.Select((c, i) => i > 0 && char.IsUpper(c) ? "_" + c : char.ToUpperInvariant(c).ToString()));
    }
}
