using FsCheck.Fluent;
using MigrationOps.Engine.Qmp;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.Qmp;

/// <summary>The curve through measured windows.</summary>
public class DirtyRateCurveTests
{
    [Fact]
    public void Points_of_a_curve_give_that_curve_back()
    {
        var inputs = from set in Gen.Choose(1, 1000) from constant in Gen.Choose(1, 40) from steady in Gen.Choose(0, 100) select (Set: set * 1e6, Constant: constant / 10.0, Steady: steady * 1e6);
        Property.Holds(inputs, wanted =>
        {
            var truth = new DirtyRateCurve(wanted.Set, wanted.Constant, wanted.Steady, 0);
            var found = DirtyRateCurve.Fit([.. new[] { 0.2, 1, 5.0 }.Select(seconds => (seconds, truth.BytesWithin(seconds)))]);
            Assert.InRange(found.Error, 0, 0.02);
            foreach (double seconds in new[] { 0.2, 0.5, 1, 3, 5 })
            {
                Assert.InRange(found.BytesWithin(seconds) / truth.BytesWithin(seconds), 0.9, 1.1);
            }
        });
    }

    [Fact]
    public void Nothing_that_is_written_is_no_curve() => Assert.Equal((0, 0, 0), Amounts(DirtyRateCurve.Fit([(1, 0), (5, 0)])));

    [Fact]
    public void A_rate_that_is_the_same_over_every_window_is_steady()
    {
        var curve = DirtyRateCurve.Fit([(0.2, 20e6), (1, 100e6), (5, 500e6)]);
        Assert.InRange(curve.BytesWithin(10), 0.9e9, 1.1e9);
        Assert.InRange(curve.Error, 0, 0.02);
    }

    [Fact]
    public void One_window_is_enough_for_that_window()
        => Assert.InRange(DirtyRateCurve.Fit([(1, 100e6)]).BytesWithin(1), 95e6, 105e6);

    [Fact]
    public void No_amount_is_below_zero_whatever_was_measured()
    {
        var inputs = Gen.Choose(0, 1000).ArrayOf(3);
        Property.Holds(inputs, bytes =>
        {
            var curve = DirtyRateCurve.Fit([(0.2, bytes[0] * 1e6), (1, bytes[1] * 1e6), (5, bytes[2] * 1e6)]);
            Assert.True(curve is { WorkingSet: >= 0, Steady: >= 0, TimeConstant: > 0 } && double.IsFinite(curve.Error), curve.ToString());
        });
    }

    private static (double, double, double) Amounts(DirtyRateCurve curve) => (curve.WorkingSet, curve.Steady, curve.Error);
}
