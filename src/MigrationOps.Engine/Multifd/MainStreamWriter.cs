using System.Buffers;
using System.Text;
using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Multifd;

/// <summary>Sends the main stream of a migration that consists of devices alone: no RAM, no machine.</summary>
/// <param name="output">The main channel.</param>
internal sealed class MainStreamWriter(Stream output)
{
    private readonly ArrayBufferWriter<byte> _buffer = new();

    /// <summary>Writes the stream's header and asks for the return path and a sign of life.</summary>
    public void Begin(ReadOnlySpan<byte> openReturnPath)
    {
        ElementWriter.Header(_buffer);
        _buffer.Write(openReturnPath);
        ElementWriter.Ping(_buffer, 1);
        Send();
    }

    /// <summary>Writes a section with its footer.</summary>
    public void Section(SectionKind kind, StreamSection section, ReadOnlySpan<byte> body)
    {
        ArgumentNullException.ThrowIfNull(section);
        ElementWriter.Section(_buffer, kind, section.Id, Encoding.UTF8.GetBytes(section.IdStr), section.InstanceId, section.VersionId);
        _buffer.Write(body);
        ElementWriter.Footer(_buffer, section.Id);
        Send();
    }

    /// <summary>Says that the sections that follow are the last.</summary>
    public void StartSwitchover()
    {
        ElementWriter.Command(_buffer, StreamCommandId.SwitchoverStart);
        Send();
    }

    /// <summary>Writes the end mark and an empty description, with which the target knows that nothing follows.</summary>
    public void End()
    {
        ElementWriter.Eof(_buffer);
        ElementWriter.Description(_buffer, "{\"page_size\": 4096, \"devices\": []}"u8);
        Send();
    }

    private void Send()
    {
        output.Write(_buffer.WrittenSpan);
        _buffer.ResetWrittenCount();
    }
}
