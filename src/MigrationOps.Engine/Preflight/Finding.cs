namespace MigrationOps.Engine.Preflight;

/// <summary>What a check says.</summary>
internal sealed record Finding(QemuCheckStatus Status, string Detail = "", string Action = "")
{
    internal string Source { get; init; } = "";

    internal string Target { get; init; } = "";

    internal IReadOnlyList<QemuMigrationDifference> Data { get; init; } = [];

    internal static Finding Passed(string detail = "") => new(QemuCheckStatus.Passed, detail);

    internal static Finding Info(string detail, string action = "") => new(QemuCheckStatus.Info, detail, action);

    internal static Finding Warning(string detail, string action = "") => new(QemuCheckStatus.Warning, detail, action);

    internal static Finding Blocker(string detail, string action) => new(QemuCheckStatus.Blocker, detail, action);

    internal static Finding Unknown(string detail, string action = "") => new(QemuCheckStatus.Unknown, detail, action);

    /// <summary>The same with what was found on both sides.</summary>
    internal Finding Of(string? source, string? target) => this with { Source = source ?? "", Target = target ?? "" };

    /// <summary>Single differences as one finding: as bad as the worst of them. Passed if there is none.</summary>
    /// <param name="differences">What differs.</param>
    /// <param name="detail">The sentence, by the differences of the worst status.</param>
    /// <param name="action">What to do about them.</param>
    internal static Finding Of(IReadOnlyList<QemuMigrationDifference> differences, Func<IReadOnlyList<QemuMigrationDifference>, string> detail, Func<IReadOnlyList<QemuMigrationDifference>, string> action)
    {
        if (differences.Count == 0)
        {
            return Passed();
        }

        var status = differences.Max(difference => difference.Status);
        QemuMigrationDifference[] worst = [.. differences.Where(difference => difference.Status == status)];
        return new Finding(status, detail(worst), action(worst))
        {
            Data = differences,
            Source = Join(worst, difference => difference.Source),
            Target = Join(worst, difference => difference.Target),
        };
    }

    internal static QemuMigrationDifference Difference(QemuCheckStatus status, string name, string? source, string? target)
        => new() { Name = name, Source = source ?? "", Target = target ?? "", Status = status };

    private static string Join(QemuMigrationDifference[] differences, Func<QemuMigrationDifference, string> side)
    {
        const int Most = 3;
        string text = string.Join(", ", differences.Take(Most).Select(difference => side(difference) is { Length: > 0 } value ? $"{difference.Name} {value}" : $"no {difference.Name}"));
        return differences.Length > Most ? $"{text} and {differences.Length - Most} more" : text;
    }
}
