namespace MigrationOps.Interop.Tests.Moving;

/// <summary>
/// The QEMUs with which a failure is brought about: two of the four in turn, so that the suite stays short and every version has its share; with
/// MIGRATIONOPS_LONG=1 all of them.
/// </summary>
internal static class MovePrograms
{
    private static readonly string[] s_all = [.. Qmp.MonitorTests.Programs.Select(row => row.Data)];

    internal static bool IsLong { get; } = Environment.GetEnvironmentVariable("MIGRATIONOPS_LONG") == "1";

    internal static IEnumerable<string> Of(int number) => IsLong ? s_all : [s_all[number % 4], s_all[(number + 1 + (number / 4 % 3)) % 4]];
}
