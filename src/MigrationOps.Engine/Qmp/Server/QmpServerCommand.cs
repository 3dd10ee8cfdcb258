using System.Text.Json;

namespace MigrationOps.Engine.Qmp;

/// <summary>A command as a scripted monitor received it.</summary>
/// <param name="Name">Which command.</param>
/// <param name="Arguments">Its arguments; an empty value if there are none.</param>
/// <param name="OutOfBand">True if it came with exec-oob.</param>
/// <param name="Id">The id as it came; an empty value if there is none.</param>
internal sealed record QmpServerCommand(string Name, JsonElement Arguments, bool OutOfBand, JsonElement Id);
