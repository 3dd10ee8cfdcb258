using System.Diagnostics;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Wire;

public class TransferScopeTests
{
    [Fact]
    public void A_wait_without_an_event_fails_at_its_deadline_and_names_what_it_waited_for()
    {
        var (read, write) = Pipe.Create();
        using (read)
        using (write)
        using (var scope = new TransferScope(TimeSpan.FromMilliseconds(150)))
        {
            var clock = Stopwatch.StartNew();
            var e = Assert.Throws<WireException>(
                () => scope.Wait(read, PollEvents.Readable, scope.StartDeadline(), "the reply to GET_FEATURES", "the pipe"));
            Assert.InRange(clock.Elapsed.TotalMilliseconds, 149, 40_000);
            Assert.Equal(WireError.Timeout, e.Reason);
            Assert.Equal("WireTimeout", e.ErrorId);
            Assert.Equal(FailureKind.Timeout, e.Kind);
            Assert.Equal("the pipe", e.Target);
            Assert.Equal("Nothing moved within 0.15 s while waiting for the reply to GET_FEATURES.", e.Message);
        }
    }

    [Fact]
    public void An_event_that_is_there_is_seen_even_when_the_deadline_has_passed()
    {
        var (read, write) = Pipe.Create();
        using (read)
        using (write)
        using (var scope = new TransferScope(TimeSpan.FromTicks(1)))
        {
            FdIo.Write(write, "x"u8);
            var deadline = scope.StartDeadline();
            Waiting.Until(() => deadline.HasPassed, "the deadline");
            Assert.Equal(PollEvents.Readable, scope.Wait(read, PollEvents.Readable, deadline, "a byte"));
        }
    }

    [Fact]
    public void An_event_ends_a_wait_that_has_no_deadline()
    {
        var (read, write) = Pipe.Create();
        using (read)
        using (write)
        using (var scope = new TransferScope(Timeout.InfiniteTimeSpan))
        {
            var waiter = Waiting.OnThread(() => scope.Wait(read, PollEvents.Readable, scope.StartDeadline(), "a byte"));
            FdIo.Write(write, "x"u8);
            Assert.Equal(PollEvents.Readable, waiter.Result("the waiter"));
        }
    }

    [Fact]
    public void A_scope_that_was_cancelled_before_it_was_made_waits_for_nothing()
    {
        var (read, write) = Pipe.Create();
        using (read)
        using (write)
        using (var scope = new TransferScope(Timeout.InfiniteTimeSpan, new CancellationToken(canceled: true)))
        {
            FdIo.Write(write, "x"u8);
            Assert.ThrowsAny<OperationCanceledException>(
                () => scope.Wait(read, PollEvents.Readable, scope.StartDeadline(), "a byte"));
        }
    }

    [Fact]
    public void Cancellation_ends_all_waiters_of_a_scope_and_every_wait_that_comes_later()
    {
        using var cancel = new CancellationTokenSource();
        var (read, write) = Pipe.Create();
        using (read)
        using (write)
        using (var scope = new TransferScope(Timeout.InfiniteTimeSpan, cancel.Token))
        {
            using var begun = new CountdownEvent(24);
            var waiters = Enumerable.Range(0, 24).Select(_ => Waiting.OnThread(() =>
            {
                begun.Signal();
                return Record.Exception(() => scope.Wait(read, PollEvents.Readable, scope.StartDeadline(), "nothing"));
            })).ToArray();
            Assert.True(begun.Wait(Waiting.Patience));
            cancel.Cancel();
            foreach (var waiter in waiters)
            {
                Assert.IsAssignableFrom<OperationCanceledException>(waiter.Result("a waiter"));
            }

            Assert.ThrowsAny<OperationCanceledException>(
                () => scope.Wait(read, PollEvents.Readable, scope.StartDeadline(), "nothing"));
        }
    }

    [Fact]
    public void A_cancellation_at_any_moment_of_a_wait_is_never_lost()
    {
        var (read, write) = Pipe.Create();
        using (read)
        using (write)
        {
            for (int i = 0; i < 400; i++)
            {
                using var cancel = new CancellationTokenSource();
                using var scope = new TransferScope(Timeout.InfiniteTimeSpan, cancel.Token);
                int spin = i % 40 * 20;
                var canceller = Task.Run(() =>
                {
                    Thread.SpinWait(spin);
                    cancel.Cancel();
                });
                var waiter = Task.Run(() => Record.Exception(
                    () => scope.Wait(read, PollEvents.Readable, scope.StartDeadline(), "nothing")));
                Assert.IsAssignableFrom<OperationCanceledException>(waiter.Result($"wait {i}"));
                canceller.Join("the canceller");
            }
        }
    }

    [Fact]
    public void A_hang_up_ends_a_wait_that_asked_for_something_else()
    {
        var (read, write) = Pipe.Create();
        using (read)
        using (var scope = new TransferScope(TimeSpan.FromSeconds(60)))
        {
            write.Dispose();
            Assert.Equal(PollEvents.Hangup, scope.Wait(read, PollEvents.None, scope.StartDeadline(), "the end"));
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-2)]
    public void A_timeout_that_is_not_a_time_is_refused(int milliseconds)
        => Assert.Throws<ArgumentOutOfRangeException>(() => new TransferScope(TimeSpan.FromMilliseconds(milliseconds)));

    [Fact]
    public void What_is_left_of_a_deadline_is_rounded_up_and_never_negative()
    {
        Assert.InRange(new Deadline(TimeSpan.FromMilliseconds(5000)).RemainingMilliseconds, 4000, 5000);
        var passed = new Deadline(TimeSpan.FromTicks(1));
        Waiting.Until(() => passed.HasPassed, "the deadline");
        Assert.Equal(0, passed.RemainingMilliseconds);
        Assert.Equal(-1, new Deadline(Timeout.InfiniteTimeSpan).RemainingMilliseconds);
        Assert.Equal(-1, new Deadline(TimeSpan.MaxValue).RemainingMilliseconds);
        Assert.False(new Deadline(TimeSpan.MaxValue).HasPassed);
        Assert.Equal(int.MaxValue, new Deadline(TimeSpan.FromDays(1000)).RemainingMilliseconds);
    }
}
