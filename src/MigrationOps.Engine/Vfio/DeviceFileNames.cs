namespace MigrationOps.Engine.Vfio;

/// <summary>Gives each device of a migration a file name. The names come from the peer, so that nothing of them is taken as it is.</summary>
internal sealed class DeviceFileNames(string folder)
{
    private const int LongestName = 120;

    private readonly HashSet<string> _taken = new(StringComparer.Ordinal);

    internal string PathFor(string idStr, uint instanceId)
    {
        string name = new([.. idStr.Take(LongestName).Select(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' ? c : '-')]);
        name = name.TrimStart('.', '-') + (instanceId == 0 ? "" : $"-{instanceId}");
        string candidate = name;
        for (int i = 2; !_taken.Add(candidate); i++)
        {
            candidate = $"{name}-{i}";
        }

        return Path.Combine(folder, (candidate.Length == 0 ? "device" : candidate) + ".state");
    }
}
