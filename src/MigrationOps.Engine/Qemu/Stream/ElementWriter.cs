using System.Buffers;
using System.Buffers.Binary;
using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Qemu;

/// <summary>Writes the framing of a stream, what <see cref="ElementReader"/> reads.</summary>
internal static class ElementWriter
{
    internal static void Header(IBufferWriter<byte> output)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteUInt32(StreamFormat.Magic);
        writer.WriteUInt32(StreamFormat.Version);
    }

    internal static void Configuration(IBufferWriter<byte> output, string machineType)
    {
        var writer = WireWriter.BigEndian(output);
        byte[] name = Encoding.UTF8.GetBytes(machineType);
        writer.WriteByte(StreamFormat.Configuration);
        writer.WriteUInt32((uint)name.Length);
        writer.WriteBytes(name);
    }

    /// <summary>The same with the subsections that the configuration has.</summary>
    internal static void Configuration(IBufferWriter<byte> output, StreamConfiguration configuration)
    {
        Configuration(output, configuration.MachineType);
        var writer = WireWriter.BigEndian(output);
        if (configuration.PageBits is { } bits)
        {
            Subsection(output, "configuration/target-page-bits"u8);
            writer.WriteUInt32((uint)bits);
        }

        if (configuration.Capabilities.Count > 0)
        {
            Subsection(output, "configuration/capabilities"u8);
            writer.WriteUInt32((uint)configuration.Capabilities.Count);
            foreach (string capability in configuration.Capabilities)
            {
                byte[] name = Encoding.UTF8.GetBytes(capability);
                writer.WriteByte(checked((byte)name.Length));
                writer.WriteBytes(name);
            }
        }

        if (configuration.Uuid is { } uuid)
        {
            Subsection(output, "configuration/uuid"u8);
            writer.WriteBytes(uuid.ToByteArray(bigEndian: true));
        }
    }

    /// <summary>The header of a section; that of PART and END has the id alone.</summary>
    internal static void Section(IBufferWriter<byte> output, SectionKind kind, uint id, ReadOnlySpan<byte> idStr, uint instanceId, uint versionId)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteByte((byte)kind);
        writer.WriteUInt32(id);
        if (kind is SectionKind.Start or SectionKind.Full)
        {
            writer.WriteByte(checked((byte)idStr.Length));
            writer.WriteBytes(idStr);
            writer.WriteUInt32(instanceId);
            writer.WriteUInt32(versionId);
        }
    }

    internal static void Footer(IBufferWriter<byte> output, uint sectionId)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteByte(StreamFormat.Footer);
        writer.WriteUInt32(sectionId);
    }

    internal static void Command(IBufferWriter<byte> output, StreamCommandId command, ReadOnlySpan<byte> data = default)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteByte(StreamFormat.Command);
        writer.WriteUInt16((ushort)command);
        writer.WriteUInt16((ushort)data.Length);
        writer.WriteBytes(data);
    }

    /// <summary>Asks for a PONG with this value.</summary>
    internal static void Ping(IBufferWriter<byte> output, uint value) => Command(output, StreamCommandId.Ping, value);

    /// <summary>The head of a package, whose bytes follow.</summary>
    internal static void Packaged(IBufferWriter<byte> output, uint length) => Command(output, StreamCommandId.Packaged, length);

    internal static void Eof(IBufferWriter<byte> output) => WireWriter.BigEndian(output).WriteByte(StreamFormat.Eof);

    internal static void Description(IBufferWriter<byte> output, ReadOnlySpan<byte> json)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteByte(StreamFormat.Description);
        writer.WriteUInt32((uint)json.Length);
        writer.WriteBytes(json);
    }

    private static void Subsection(IBufferWriter<byte> output, ReadOnlySpan<byte> name)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteByte(StreamFormat.Subsection);
        writer.WriteByte((byte)name.Length);
        writer.WriteBytes(name);
        writer.WriteUInt32(1);
    }

    private static void Command(IBufferWriter<byte> output, StreamCommandId command, uint value)
    {
        Span<byte> data = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32BigEndian(data, value);
        Command(output, command, data);
    }
}
