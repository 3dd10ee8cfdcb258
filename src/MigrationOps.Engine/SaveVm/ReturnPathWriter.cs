using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>What the target says to the source. Any thread may use it: devices approve the switchover from wherever they like.</summary>
internal sealed class ReturnPathWriter(Stream stream)
{
    private readonly Lock _gate = new();
    private bool _shut;
    private string? _lastBlock;

    /// <summary>Answers a ping.</summary>
    internal void Pong(uint value) => Send(new ReturnPathMessage(ReturnPathMessageType.Pong, value));

    /// <summary>Allows the switchover.</summary>
    internal void Acknowledge() => Send(new ReturnPathMessage(ReturnPathMessageType.SwitchoverAck));

    /// <summary>Says how it ended: 0 for well. The last word; a second one is not sent.</summary>
    internal void Shut(uint value)
    {
        lock (_gate)
        {
            if (!_shut)
            {
                _shut = true;
                Send(new ReturnPathMessage(ReturnPathMessageType.Shut, value));
            }
        }
    }

    /// <summary>Asks for pages.</summary>
    internal void Request(SaveVmPages pages)
    {
        lock (_gate)
        {
            bool same = pages.Block == _lastBlock;
            Send(new ReturnPathMessage(same ? ReturnPathMessageType.RequestPages : ReturnPathMessageType.RequestPagesWithId, PostcopyCodec.Request(pages, same)));
            _lastBlock = pages.Block;
        }
    }

    /// <summary>Tells which pages of a block have come.</summary>
    internal void Received(string block, byte[] bitmap) => Send(PostcopyCodec.Bitmap(block, bitmap));

    /// <summary>Confirms that the paused migration resumes.</summary>
    internal void Resumed() => Send(new ReturnPathMessage(ReturnPathMessageType.ResumeAck, PostcopyCodec.Resumed));

    private void Send(ReturnPathMessage message) => Send(message.ToArray());

    private void Send(byte[] message)
    {
        lock (_gate)
        {
            stream.Write(message);
            stream.Flush();
        }
    }
}
