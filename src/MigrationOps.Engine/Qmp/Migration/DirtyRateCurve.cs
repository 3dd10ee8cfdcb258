namespace MigrationOps.Engine.Qmp;

/// <summary>
/// The curve through measured dirty rates: U(t) = WorkingSet (1 - exp(-t / TimeConstant)) + Steady t. A page counts once in a window, so
/// a longer one shows a smaller rate; the curve says by how much.
/// </summary>
/// <param name="WorkingSet">Bytes that are written again and again.</param>
/// <param name="TimeConstant">Seconds in which most of them are written once.</param>
/// <param name="Steady">Bytes per second that are written once.</param>
/// <param name="Error">The root of the mean square of the relative distances.</param>
internal sealed record DirtyRateCurve(double WorkingSet, double TimeConstant, double Steady, double Error)
{
    private const int Steps = 200;

    /// <summary>Bytes that are written within a time, in seconds.</summary>
    internal double BytesWithin(double seconds) => (WorkingSet * (1 - Math.Exp(-seconds / TimeConstant))) + (Steady * seconds);

    /// <summary>
    /// The best curve through points (seconds, bytes): for each time constant of a grid from a tenth of the shortest window to ten times
    /// the longest the best two amounts, none below zero, by least squares of the relative distances.
    /// </summary>
    internal static DirtyRateCurve Fit(IReadOnlyList<(double Seconds, double Bytes)> points)
    {
        double first = points.Min(point => point.Seconds);
        double last = points.Max(point => point.Seconds);
        if (points.All(point => point.Bytes <= 0))
        {
            return new DirtyRateCurve(0, last, 0, 0);
        }

        DirtyRateCurve? best = null;
        double from = Math.Log(first / 10);
        double step = (Math.Log(last * 10) - from) / Steps;
        for (int i = 0; i <= Steps; i++)
        {
            var curve = FitAmounts(points, Math.Exp(from + (i * step)));
            best = best is null || curve.Error < best.Error - 1e-9 ? curve : best;
        }

        return best!;
    }

    private static DirtyRateCurve FitAmounts(IReadOnlyList<(double Seconds, double Bytes)> points, double constant)
    {
        double aa = 0, ab = 0, bb = 0, ay = 0, by = 0;
        foreach (var (seconds, bytes) in points)
        {
            double weight = 1 / Math.Max(bytes, 1);
            double a = (1 - Math.Exp(-seconds / constant)) * weight;
            double b = seconds * weight;
            double y = bytes * weight;
            aa += a * a;
            ab += a * b;
            bb += b * b;
            ay += a * y;
            by += b * y;
        }

        double determinant = (aa * bb) - (ab * ab);
        double set = determinant > 1e-12 * aa * bb ? ((ay * bb) - (by * ab)) / determinant : -1;
        double steady = determinant > 1e-12 * aa * bb ? ((by * aa) - (ay * ab)) / determinant : -1;
        if (set < 0 || steady < 0)
        {
            // On the edge one of the two is nothing: take the better edge.
            var onlySet = Rate(points, ay / aa, constant, 0);
            var onlySteady = Rate(points, 0, constant, by / bb);
            return onlySet.Error <= onlySteady.Error ? onlySet : onlySteady;
        }

        return Rate(points, set, constant, steady);
    }

    private static DirtyRateCurve Rate(IReadOnlyList<(double Seconds, double Bytes)> points, double set, double constant, double steady)
    {
        var curve = new DirtyRateCurve(Math.Max(0, set), constant, Math.Max(0, steady), 0);
        double sum = points.Sum(point => Math.Pow((curve.BytesWithin(point.Seconds) - point.Bytes) / Math.Max(point.Bytes, 1), 2));
        return curve with { Error = Math.Sqrt(sum / points.Count) };
    }
}
