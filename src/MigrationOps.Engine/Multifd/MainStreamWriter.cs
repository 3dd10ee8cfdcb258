using System.Buffers;
using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Multifd;

/// <summary>Writes the main stream of a migration that consists of devices alone: no RAM, no machine.</summary>
/// <param name="output">The main channel.</param>
public sealed class MainStreamWriter(Stream output)
{
    private const ushort PingCommand = 2;
    private const ushort SwitchoverStartCommand = 11;

    private readonly ArrayBufferWriter<byte> _buffer = new();

    /// <summary>Writes the stream's header and asks for the return path and a sign of life.</summary>
    public void Begin(ReadOnlySpan<byte> openReturnPath)
    {
        var writer = WireWriter.BigEndian(_buffer);
        writer.WriteUInt32(ChannelInit.MainMagic);
        writer.WriteUInt32(3);
        writer.WriteBytes(openReturnPath);
        writer.WriteByte(8);
        writer.WriteUInt16(PingCommand);
        writer.WriteUInt16(4);
        writer.WriteUInt32(1);
        Send();
    }

    /// <summary>Writes a section with its footer.</summary>
    public void Section(SectionKind kind, SectionInfo section, ReadOnlySpan<byte> body)
    {
        ArgumentNullException.ThrowIfNull(section);
        var writer = WireWriter.BigEndian(_buffer);
        writer.WriteByte((byte)kind);
        writer.WriteUInt32(section.Id);
        if (kind is SectionKind.Start or SectionKind.Full)
        {
            byte[] name = Encoding.UTF8.GetBytes(section.IdStr);
            writer.WriteByte((byte)name.Length);
            writer.WriteBytes(name);
            writer.WriteUInt32(section.InstanceId);
            writer.WriteUInt32(section.Version);
        }

        writer.WriteBytes(body);
        writer.WriteByte(0x7e);
        writer.WriteUInt32(section.Id);
        Send();
    }

    /// <summary>Says that the sections that follow are the last.</summary>
    public void StartSwitchover()
    {
        var writer = WireWriter.BigEndian(_buffer);
        writer.WriteByte(8);
        writer.WriteUInt16(SwitchoverStartCommand);
        writer.WriteUInt16(0);
        Send();
    }

    /// <summary>Writes the end mark and an empty description, with which the target knows that nothing follows.</summary>
    public void End()
    {
        ReadOnlySpan<byte> description = "{\"page_size\": 4096, \"devices\": []}"u8;
        var writer = WireWriter.BigEndian(_buffer);
        writer.WriteByte((byte)SectionKind.End);
        writer.WriteByte(6);
        writer.WriteUInt32((uint)description.Length);
        writer.WriteBytes(description);
        Send();
    }

    private void Send()
    {
        output.Write(_buffer.WrittenSpan);
        _buffer.ResetWrittenCount();
    }
}
