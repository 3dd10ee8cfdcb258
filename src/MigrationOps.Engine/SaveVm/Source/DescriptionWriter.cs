using System.Buffers;
using System.Text.Json;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// The JSON description behind the end mark, as QEMU writes it for devices that it knows no fields of: one buffer of the
/// body's length.
/// </summary>
internal sealed class DescriptionWriter : IDisposable
{
    private readonly ArrayBufferWriter<byte> _text = new();
    private readonly Utf8JsonWriter _json;

    internal DescriptionWriter(int pageSize)
    {
        _json = new Utf8JsonWriter(_text);
        _json.WriteStartObject();
        _json.WriteNumber("page_size", pageSize);
        _json.WriteStartArray("devices");
    }

    /// <summary>Describes a FULL section.</summary>
    internal void Add(SaveVmEntry entry, long length)
    {
        _json.WriteStartObject();
        _json.WriteString("name", entry.IdStr);
        _json.WriteNumber("instance_id", entry.InstanceId);
        _json.WriteNumber("size", length);
        _json.WriteStartArray("fields");
        _json.WriteStartObject();
        _json.WriteString("name", "data");
        _json.WriteString("type", "buffer");
        _json.WriteNumber("size", length);
        _json.WriteEndObject();
        _json.WriteEndArray();
        _json.WriteEndObject();
    }

    /// <summary>The whole element, once every section is described.</summary>
    internal ReadOnlySpan<byte> Element()
    {
        _json.WriteEndArray();
        _json.WriteEndObject();
        _json.Flush();
        var element = new ArrayBufferWriter<byte>(_text.WrittenCount + 5);
        ElementWriter.Description(element, _text.WrittenSpan);
        return element.WrittenSpan;
    }

    /// <inheritdoc/>
    public void Dispose() => _json.Dispose();
}
