using FsCheck;
using FsCheck.Fluent;

namespace MigrationOps.Engine.Tests.Support;

/// <summary>Properties that FsCheck tries with many inputs.</summary>
internal static class Property
{
    /// <summary>Checks a property; a failure shows the smallest input and the seed.</summary>
    internal static void Holds<T>(Gen<T> inputs, Action<T> check)
        => Prop.ForAll(inputs.ToArbitrary(), check).QuickCheckThrowOnFailure();

    /// <summary>Ways to split a number of bytes into reads: sizes of at least 1 that are used in turn.</summary>
    internal static Gen<int[]> Splits(int most)
        => Gen.Choose(1, most).ArrayOf().Where(sizes => sizes.Length > 0);

    /// <summary>Cuts data into pieces of these sizes, used in turn.</summary>
    internal static IEnumerable<ReadOnlyMemory<byte>> Cut(ReadOnlyMemory<byte> data, int[] sizes)
    {
        for (int i = 0; data.Length > 0; i++)
        {
            int size = Math.Min(sizes[i % sizes.Length], data.Length);
            yield return data[..size];
            data = data[size..];
        }
    }
}
