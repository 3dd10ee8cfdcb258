namespace MigrationOps.Engine.SaveVm;

/// <summary>What the target says to the source. Any thread may use it: devices approve the switchover from wherever they like.</summary>
internal sealed class ReturnPathWriter(Stream stream)
{
    private readonly Lock _gate = new();
    private bool _acknowledged;
    private bool _shut;

    /// <summary>Answers a ping.</summary>
    internal void Pong(uint value) => Send(ReturnPathMessageType.Pong, value);

    /// <summary>Allows the switchover, once.</summary>
    internal void Acknowledge()
    {
        lock (_gate)
        {
            if (!_acknowledged)
            {
                _acknowledged = true;
                Send(ReturnPathMessageType.SwitchoverAck, null);
            }
        }
    }

    /// <summary>Says how it ended: 0 for well. The last word; a second one is not sent.</summary>
    internal void Shut(uint value)
    {
        lock (_gate)
        {
            if (!_shut)
            {
                _shut = true;
                Send(ReturnPathMessageType.Shut, value);
            }
        }
    }

    private void Send(ReturnPathMessageType type, uint? value)
    {
        lock (_gate)
        {
            stream.Write(ReturnPathCodec.Write(type, value));
            stream.Flush();
        }
    }
}
