using FsCheck;
using FsCheck.Fluent;

namespace MigrationOps.Engine.Tests.Support;

/// <summary>Properties that FsCheck tries with many inputs.</summary>
internal static class Property
{
    /// <summary>Checks a property; a failure shows the smallest input and the seed.</summary>
    /// <param name="inputs">What it is tried with.</param>
    /// <param name="check">Throws where the property does not hold.</param>
    /// <param name="tries">How many inputs, as its cost allows.</param>
    internal static void Holds<T>(Gen<T> inputs, Action<T> check, int tries = 100)
        => Prop.ForAll(inputs.ToArbitrary(), check).Check(Config.QuickThrowOnFailure.WithMaxTest(tries));

    /// <inheritdoc cref="Holds{T}(Gen{T}, Action{T}, int)"/>
    internal static void Holds<T>(Gen<T> inputs, Func<T, bool> check, int tries = 100)
        => Prop.ForAll(inputs.ToArbitrary(), check).Check(Config.QuickThrowOnFailure.WithMaxTest(tries));

    /// <summary>Checks a property of whatever there is of a type.</summary>
    internal static void Holds<T>(Func<T, bool> check) => Prop.ForAll(check).Check(Config.QuickThrowOnFailure);

    /// <summary>Any bytes at all.</summary>
    internal static Gen<byte[]> Bytes => Gen.Choose(0, 255).Select(i => (byte)i).ArrayOf();

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
