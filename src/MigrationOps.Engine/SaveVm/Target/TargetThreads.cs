namespace MigrationOps.Engine.SaveVm;

/// <summary>What runs beside the driver's own thread in one run of the target, and the return path that all of them use.</summary>
/// <param name="Loading">The devices' load threads.</param>
/// <param name="Channels">The multifd channels; null without.</param>
/// <param name="Package">The package of postcopy.</param>
/// <param name="ReturnPath">Answers the source.</param>
internal sealed record TargetThreads(
    LoadThreads Loading, IncomingChannels? Channels, PostcopyPackage Package, TargetReturnPath ReturnPath) : IDisposable
{
    /// <summary>Waits for all of them, whose waits have been cancelled.</summary>
    /// <returns>False if one was left behind.</returns>
    internal bool End() => Loading.End() & Package.End() & Channels?.End() is not false;

    /// <summary>Gives back what they waited on; all of them have ended.</summary>
    public void Dispose()
    {
        Loading.Dispose();
        Channels?.Dispose();
        Package.Dispose();
    }
}
