using MigrationOps.Engine.Native;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Wire;

/// <summary>A transfer's progress, first failure, and the scopes inside it.</summary>
public class TransferScopeFailureTests
{
    private static readonly TimeSpan Never = Timeout.InfiniteTimeSpan;

    [Fact]
    public void The_first_failure_is_kept_and_ends_the_waits_of_the_others()
    {
        var (read, write) = Pipe.Create();
        using (read)
        using (write)
        using (var scope = new TransferScope(Never))
        {
            using var first = SideThread.Start("waits", scope, () => scope.Wait(read, PollEvents.Readable, scope.StartDeadline(), "nothing"));
            var told = new List<string>();
            scope.Fail(new IOException("first"), () => told.Add("first"));
            scope.Fail(new IOException("second"), () => told.Add("second"));
            first.Join();
            Assert.Equal(["first"], told);
            Assert.Equal("first", scope.Failure!.Message);
            Assert.True(scope.CancellationToken.IsCancellationRequested);
            Assert.Equal("first", Assert.Throws<IOException>(() => scope.ThrowIfFailed(() => new IOException("silence"))).Message);
        }
    }

    [Fact]
    public void A_thread_that_ends_because_the_caller_cancelled_reports_the_cancellation()
    {
        using var cancel = new CancellationTokenSource();
        var (read, write) = Pipe.Create();
        using (read)
        using (write)
        using (var scope = new TransferScope(Never, ProgressRule.WholeTransfer, cancel.Token))
        {
            using var thread = SideThread.Start("waits", scope, () => scope.Wait(read, PollEvents.Readable, scope.StartDeadline(), "nothing"));
            cancel.Cancel();
            thread.Join();
            Assert.Null(scope.Failure);
            Assert.ThrowsAny<OperationCanceledException>(() => scope.ThrowIfFailed(() => new IOException("silence")));
        }
    }

    [Fact]
    public void A_cancellation_without_an_order_is_a_failure()
    {
        using var scope = new TransferScope(Never);
        scope.Fail(new OperationCanceledException("a handler's own"));
        Assert.Equal("a handler's own", scope.Failure!.Message);
    }

    [Fact]
    public void A_scope_without_failure_throws_nothing()
    {
        using var scope = new TransferScope(Never);
        scope.ThrowIfFailed(() => new IOException("silence"));
    }

    [Fact]
    public void A_whole_transfer_ends_when_no_connection_moves_though_no_wait_has_a_deadline()
    {
        var (read, write) = Pipe.Create();
        using (read)
        using (write)
        using (var scope = new TransferScope(TimeSpan.FromMilliseconds(200), ProgressRule.WholeTransfer))
        {
            Assert.Equal(Never, scope.Timeout);
            Assert.Equal(TimeSpan.FromMilliseconds(200), scope.Limit);
            using var thread = SideThread.Start("waits", scope, () => scope.Wait(read, PollEvents.Readable, scope.StartDeadline(), "nothing"));
            thread.Join();
            Assert.True(scope.HasExpired);
            Assert.Equal("silence", Assert.Throws<IOException>(() => scope.ThrowIfFailed(() => new IOException("silence"))).Message);
        }
    }

    [Fact]
    public void What_one_connection_moves_keeps_the_whole_transfer_going()
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(20), ProgressRule.WholeTransfer) { Progress = moved => _told = moved };
        using var waits = scope.Until();
        waits.Count(5);
        scope.Count(7L);
        Assert.Equal((12L, 12L, 12L), (scope.Moved, waits.Moved, _told));
    }

    [Fact]
    public void A_failure_in_a_nested_transfer_leaves_the_outer_one_alone_but_its_bytes_are_progress_of_both()
    {
        using var outer = new TransferScope(TimeSpan.FromSeconds(7));
        using var inner = outer.Nest();
        inner.Count(3);
        inner.Fail(new IOException("inner"));
        Assert.Equal(TimeSpan.FromSeconds(7), inner.Timeout);
        Assert.True(inner.CancellationToken.IsCancellationRequested);
        Assert.False(outer.CancellationToken.IsCancellationRequested);
        Assert.Null(outer.Failure);
        Assert.Equal((3L, 3L), (inner.Moved, outer.Moved));
    }

    [Fact]
    public void The_outer_transfer_ends_what_is_nested_in_it()
    {
        using var cancel = new CancellationTokenSource();
        using var outer = new TransferScope(Never, cancel.Token);
        using var inner = outer.Nest();
        using var waits = inner.Until();
        cancel.Cancel();
        Assert.True(waits.CancellationToken.IsCancellationRequested);
        Assert.IsType<OperationCanceledException>(inner.FirstFailure(new OperationCanceledException()));
    }

    [Fact]
    public void Waits_that_end_earlier_leave_the_transfer_running_and_share_its_failure()
    {
        using var scope = new TransferScope(Never);
        using var ended = new CancellationTokenSource();
        using var waits = scope.Until(ended.Token);
        ended.Cancel();
        Assert.True(waits.CancellationToken.IsCancellationRequested);
        Assert.False(scope.CancellationToken.IsCancellationRequested);

        using var others = scope.Until();
        others.Fail(new IOException("shared"));
        Assert.Equal("shared", scope.Failure!.Message);
        Assert.True(scope.CancellationToken.IsCancellationRequested);
        Assert.Equal("shared", scope.FirstFailure(new IOException("later"))!.Message);
    }

    private long _told;
}
