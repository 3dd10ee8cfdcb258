using System.Buffers;
using System.Text;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Streams;

/// <summary>Writes small streams by hand.</summary>
internal sealed class StreamBuilder
{
    private readonly ArrayBufferWriter<byte> _output = new();

    internal StreamBuilder() => U32(0x5145564d).U32(3);

    internal static StreamBuilder Empty() => new(bare: true);

    private StreamBuilder(bool bare) => _ = bare;

    internal byte[] Bytes => _output.WrittenSpan.ToArray();

    internal StreamBuilder U8(int value)
    {
        WireWriter.BigEndian(_output).WriteByte((byte)value);
        return this;
    }

    internal StreamBuilder U16(int value)
    {
        WireWriter.BigEndian(_output).WriteUInt16((ushort)value);
        return this;
    }

    internal StreamBuilder U32(long value)
    {
        WireWriter.BigEndian(_output).WriteUInt32((uint)value);
        return this;
    }

    internal StreamBuilder U64(ulong value)
    {
        WireWriter.BigEndian(_output).WriteUInt64(value);
        return this;
    }

    internal StreamBuilder Raw(params ReadOnlySpan<byte> bytes)
    {
        _output.Write(bytes);
        return this;
    }

    internal StreamBuilder Text(string text) => Raw(Encoding.UTF8.GetBytes(text));

    internal StreamBuilder Name(string text) => U8(text.Length).Text(text);

    internal StreamBuilder Configuration(string machine, params string[] capabilities)
    {
        U8(7).U32(machine.Length).Text(machine);
        if (capabilities.Length > 0)
        {
            U8(5).Name("configuration/capabilities").U32(1).U32(capabilities.Length);
            foreach (string capability in capabilities)
            {
                Name(capability);
            }
        }

        return this;
    }

    internal StreamBuilder Section(int type, long id, string idStr, int version = 1, int instance = 0)
        => U8(type).U32(id).Name(idStr).U32(instance).U32(version);

    internal StreamBuilder Part(int type, long id) => U8(type).U32(id);

    internal StreamBuilder Footer(long id) => U8(0x7e).U32(id);

    internal StreamBuilder Command(int id, params byte[] data) => U8(8).U16(id).U16(data.Length).Raw(data);

    internal StreamBuilder RamList(params (string Name, long Length)[] blocks)
    {
        Section(1, 1, "ram", 4).U64((ulong)blocks.Sum(b => b.Length) | 4);
        foreach (var (name, length) in blocks)
        {
            Name(name).U64((ulong)length);
        }

        return this;
    }

    internal StreamBuilder Zero(long offset, string? block) => block is null ? U64((ulong)offset | 0x22).U8(0) : U64((ulong)offset | 0x02).Name(block).U8(0);

    internal StreamBuilder EndRam() => U64(0x10).Footer(1);

    internal StreamBuilder End(string? json = null)
    {
        U8(0);
        return json is null ? this : U8(6).U32(Encoding.UTF8.GetByteCount(json)).Text(json);
    }
}
