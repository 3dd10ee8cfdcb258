using System.Globalization;
using System.Text.Json;

namespace MigrationOps.Engine.Qmp;

/// <summary>The version of a QEMU as it says it itself.</summary>
/// <param name="Major">The first number.</param>
/// <param name="Minor">The second number.</param>
/// <param name="Micro">The third; from 50 on a development version, from 90 on a release candidate of the next.</param>
/// <param name="Package">The distributor's own text, such as <c>Debian 1:10.0.2+ds-2</c>; empty if there is none.</param>
internal sealed record QmpVersion(int Major, int Minor, int Micro, string Package) : IComparable<QmpVersion>
{
    internal bool IsDevelopment => Micro >= 50;

    /// <summary>The three numbers.</summary>
    internal string Number => string.Create(CultureInfo.InvariantCulture, $"{Major}.{Minor}.{Micro}");

    /// <summary>Reads what a greeting or query-version has; null if the members are not there.</summary>
    internal static QmpVersion? Read(JsonElement version)
        => version.Member("qemu") is { } numbers && numbers.Number("major") is { } major && numbers.Number("minor") is { } minor
            ? new QmpVersion((int)major, (int)minor, (int)(numbers.Number("micro") ?? 0), (version.Text("package") ?? "").Trim(' ', '(', ')'))
            : null;

    public int CompareTo(QmpVersion? other)
        => other is null ? 1 : (Major, Minor, Micro).CompareTo((other.Major, other.Minor, other.Micro));

    public override string ToString() => Package.Length == 0 ? Number : $"{Number} ({Package})";
}
