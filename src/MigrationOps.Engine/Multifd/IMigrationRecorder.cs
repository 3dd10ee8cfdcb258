namespace MigrationOps.Engine.Multifd;

/// <summary>Keeps every byte of a migration, a stream for each connection.</summary>
internal interface IMigrationRecorder
{
    /// <summary>Where the main stream goes.</summary>
    Stream OpenMain();

    /// <summary>Where a channel goes.</summary>
    Stream OpenChannel(int id);
}
