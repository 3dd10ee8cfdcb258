using System.Diagnostics;
using System.Globalization;

namespace MigrationOps.Benchmarks;

/// <summary>Measures pairs and prints both figures and their ratio.</summary>
internal sealed class BenchmarkReport
{
    private const int Rounds = 7;

    /// <summary>
    /// Runs ours and the reference in turn after a warm-up, each first in every other pair. The median of the ratios pair
    /// by pair counts: it holds when the machine's speed drifts, and when single runs find memory that the hypervisor has
    /// to bring back first. The lowest and the highest ratio stand beside it.
    /// </summary>
    /// <param name="what">What is compared.</param>
    /// <param name="bytes">Bytes that each run moves.</param>
    /// <param name="goal">The ratio (ours / reference, in speed) that is wanted.</param>
    /// <param name="ours">One run of ours; gives its time.</param>
    /// <param name="reference">One run of the reference; gives its time.</param>
    /// <param name="rounds">How many pairs.</param>
    internal void Compare(string what, long bytes, double goal, Func<TimeSpan> ours, Func<TimeSpan> reference, int rounds = Rounds)
    {
        var pairs = Pairs(rounds, ours, reference);

        double[] ratios = [.. pairs.Select(p => p.Reference / p.Ours).Order()];
        double ratio = Median(ratios);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"  {what,-44} ours {Rate(bytes, Median(pairs.Select(p => p.Ours)))}, reference {Rate(bytes, Median(pairs.Select(p => p.Reference)))}, ratio {ratio:0.00} of {ratios[0]:0.00} to {ratios[^1]:0.00} (goal {goal:0.00}: {(ratio >= goal ? "reached" : "MISSED")})"));
    }

    /// <summary>As <see cref="Compare"/>, for what is counted in things instead of bytes; the ratio is in time.</summary>
    /// <param name="what">What is compared.</param>
    /// <param name="count">Things that each run handles.</param>
    /// <param name="atMost">How many times the reference's time ours may take.</param>
    /// <param name="ours">One run of ours; gives its time.</param>
    /// <param name="reference">One run of the reference; gives its time.</param>
    /// <returns>The median time of ours.</returns>
    internal TimeSpan CompareTime(string what, int count, double atMost, Func<TimeSpan> ours, Func<TimeSpan> reference)
    {
        var pairs = Pairs(Rounds * 3, ours, reference);

        double median = Median(pairs.Select(p => p.Ours));
        double ratio = Median(pairs.Select(p => p.Ours / p.Reference));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"  {what,-44} ours {median / count * 1e6:0.00} us each, reference {Median(pairs.Select(p => p.Reference)) / count * 1e6:0.00} us, ratio {ratio:0.00} (at most {atMost:0.00}: {(ratio <= atMost ? "reached" : "MISSED")})"));
        return TimeSpan.FromSeconds(median);
    }

    /// <summary>As <see cref="Compare"/>, for what ours takes more than the reference: the median of the differences pair by pair.</summary>
    internal void CompareExcess(string what, TimeSpan atMost, Func<TimeSpan> ours, Func<TimeSpan> reference)
    {
        var pairs = Pairs(Rounds * 3, ours, reference);
        double median = Median(pairs.Select(p => p.Ours - p.Reference));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"  {what,-44} ours {Median(pairs.Select(p => p.Ours)) * 1e3:0} ms, reference {Median(pairs.Select(p => p.Reference)) * 1e3:0} ms, more by {median * 1e3:0} ms (at most {atMost.TotalMilliseconds:0}: {(median <= atMost.TotalSeconds ? "reached" : "MISSED")})"));
    }

    /// <summary>Prints a figure with its goal.</summary>
    internal void Figure(string what, double value, string unit, double atMost)
        => Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"  {what,-44} {value:0.0##} {unit} (at most {atMost:0.0}: {(value <= atMost ? "reached" : "MISSED")})"));

    internal static TimeSpan Time(Action action)
    {
        long start = Stopwatch.GetTimestamp();
        action();
        return Stopwatch.GetElapsedTime(start);
    }

    internal static double Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return sorted[sorted.Length / 2];
    }

    private static List<(double Ours, double Reference)> Pairs(int rounds, Func<TimeSpan> ours, Func<TimeSpan> reference)
    {
        ours();
        reference();
        var pairs = new List<(double Ours, double Reference)>();
        for (int i = 0; i < rounds; i++)
        {
            double early = i % 2 == 0 ? ours().TotalSeconds : reference().TotalSeconds;
            double late = i % 2 == 0 ? reference().TotalSeconds : ours().TotalSeconds;
            pairs.Add(i % 2 == 0 ? (early, late) : (late, early));
        }

        return pairs;
    }

    private static string Rate(long bytes, double seconds)
        => string.Create(CultureInfo.InvariantCulture, $"{bytes / seconds / (1 << 20),7:0} MiB/s");
}
