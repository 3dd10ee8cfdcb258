using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>The payloads of a channel's RAM packets as one stream: what the compressor of that channel wrote.</summary>
internal sealed class ChannelPayload : ForwardStream, IChannelVisitor
{
    private readonly FileStream _file;
    private readonly MultifdChannelWalker _walker;
    private readonly byte[] _input = new byte[128 * 1024];
    private readonly MemoryStream _ready = new();
    private int _kept;
    private bool _ended;

    internal ChannelPayload(string path, int pageSize)
    {
        _file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
        _walker = new MultifdChannelWalker(this, pageSize);
    }

    public void OnInit(ChannelInit init)
    {
    }

    public bool OnRamPacket(in RamPacket packet) => true;

    public void OnWarning(string warning)
    {
    }

    public void OnDevicePacket(in DeviceStatePacket packet)
    {
    }

    public void OnPayload(ReadOnlySpan<byte> data) => _ready.Write(data);

    public override int Read(Span<byte> buffer)
    {
        while (_ready.Position == _ready.Length && !_ended)
        {
            _ready.SetLength(0);
            int count = _file.Read(_input.AsSpan(_kept));
            _ended = count == 0;
            int used = _walker.Feed(_input.AsSpan(0, _kept + count), last: _ended);
            _kept += count - used;
            _input.AsSpan(used, _kept).CopyTo(_input);
            _ready.Position = 0;
        }

        return _ready.Read(buffer);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _file.Dispose();
            _ready.Dispose();
        }

        base.Dispose(disposing);
    }
}
