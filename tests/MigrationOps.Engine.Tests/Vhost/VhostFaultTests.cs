using System.Diagnostics;
using MigrationOps.Engine.Tests.Support;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Vhost;

public sealed class VhostFaultTests : IDisposable
{
    private const int Size = 3 << 20;

    private static readonly VhostUserRequest[] Answered =
    [
        VhostUserRequest.GetFeatures, VhostUserRequest.GetProtocolFeatures,
        VhostUserRequest.SetDeviceStateFd, VhostUserRequest.CheckDeviceState,
    ];

    private readonly TestFolder _folder = new();
    private readonly string _path;

    public VhostFaultTests() => _path = _folder["s"];

    public static TheoryData<VhostTransferDirection, VhostBackendFaultKind, VhostUserRequest, VhostError> ReplyFaults
    {
        get
        {
            var rows = new TheoryData<VhostTransferDirection, VhostBackendFaultKind, VhostUserRequest, VhostError>();
            foreach (var direction in Enum.GetValues<VhostTransferDirection>())
            {
                foreach (var request in Answered)
                {
                    rows.Add(direction, VhostBackendFaultKind.WrongRequestId, request, VhostError.UnexpectedReply);
                    rows.Add(direction, VhostBackendFaultKind.WrongSize, request, VhostError.WrongReplySize);
                    rows.Add(direction, VhostBackendFaultKind.WrongVersion, request, VhostError.WrongVersion);
                    rows.Add(direction, VhostBackendFaultKind.NoReply, request, VhostError.Timeout);
                    rows.Add(direction, VhostBackendFaultKind.Hangup, request, VhostError.Disconnected);
                }

                // A message without an answer of its own: the front-end notices at its next request.
                foreach (var request in new[] { VhostUserRequest.SetOwner, VhostUserRequest.SetProtocolFeatures })
                {
                    rows.Add(direction, VhostBackendFaultKind.NoReply, request, VhostError.Timeout);
                    rows.Add(direction, VhostBackendFaultKind.Hangup, request, VhostError.Disconnected);
                }

                rows.Add(direction, VhostBackendFaultKind.Refuse, default, VhostError.TransferRefused);
                rows.Add(direction, VhostBackendFaultKind.FailCheck, default, VhostError.CheckFailed);
                rows.Add(direction, VhostBackendFaultKind.AnnounceMissingDescriptor, default, VhostError.ReplyDescriptorMismatch);
                rows.Add(direction, VhostBackendFaultKind.SendUnannouncedDescriptor, default, VhostError.ReplyDescriptorMismatch);
            }

            return rows;
        }
    }

    public static TheoryData<VhostTransferDirection, VhostBackendFaultKind, long, bool, VhostError> DataFaults
    {
        get
        {
            var rows = new TheoryData<VhostTransferDirection, VhostBackendFaultKind, long, bool, VhostError>();
            foreach (var direction in Enum.GetValues<VhostTransferDirection>())
            {
                foreach (long at in new[] { 0, 1, 65536, (1 << 20) + 7, Size - 1 })
                {
                    foreach (bool own in new[] { false, true })
                    {
                        rows.Add(direction, VhostBackendFaultKind.Close, at, own, VhostError.Disconnected);
                        rows.Add(direction, VhostBackendFaultKind.FailAtByte, at, own, VhostError.CheckFailed);
                    }

                    // What is left behind the last byte fits into the pipe, so the silence is met at the check.
                    bool fits = direction == VhostTransferDirection.Load && Size - at < 1 << 20;
                    rows.Add(direction, VhostBackendFaultKind.Stall, at, false, fits ? VhostError.Timeout : VhostError.TransferStalled);
                }
            }

            return rows;
        }
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(ReplyFaults))]
    public void A_fault_at_any_message_ends_a_transfer_in_time_by_its_name(
        VhostTransferDirection direction, VhostBackendFaultKind kind, VhostUserRequest request, VhostError reason)
        => AssertFails(direction, new VhostBackendFault(kind, AtRequest: request), 5000, false, reason,
            kind is VhostBackendFaultKind.NoReply or VhostBackendFaultKind.Hangup ? Pending(request) : null);

    [Theory]
    [MemberData(nameof(DataFaults))]
    public void A_fault_at_any_byte_ends_a_transfer_in_time_by_its_name(
        VhostTransferDirection direction, VhostBackendFaultKind kind, long at, bool own, VhostError reason)
        => AssertFails(direction, new VhostBackendFault(kind, at), Size, own, reason, null);

    [Theory]
    [InlineData(VhostTransferDirection.Save)]
    [InlineData(VhostTransferDirection.Load)]
    public void A_transfer_that_is_cancelled_in_the_middle_ends_within_a_second_and_leaves_nothing(VhostTransferDirection direction)
    {
        PrepareFile(Size);
        string[] before = _folder.Entries;
        using var backend = Transfers.Backend(_path, new PatternBackendState(Size),
            new VhostBackendFault(VhostBackendFaultKind.Stall, 100_000));
        using var cancel = new CancellationTokenSource();
        var transfer = Waiting.OnThread(() => Record.Exception(
            () => Transfers.Run(direction, _path, _folder["f"], Timeout.InfiniteTimeSpan, cancel.Token)));
        Waiting.Until(() => backend.BytesSaved + backend.BytesLoaded >= 100_000, "the middle of the transfer");
        var clock = Stopwatch.StartNew();
        cancel.Cancel();
        Assert.IsAssignableFrom<OperationCanceledException>(transfer.Result("the transfer"));
        Assert.InRange(clock.Elapsed.TotalSeconds, 0, 40);
        backend.Dispose();
        Assert.Equal(before, _folder.Entries);
        Assert.True(States.Verify(_folder["f"]).Report.Passed);
    }

    [Theory]
    [InlineData(VhostUserRequest.GetFeatures)]
    [InlineData(VhostUserRequest.SetDeviceStateFd)]
    [InlineData(VhostUserRequest.CheckDeviceState)]
    public void A_wait_for_a_reply_that_is_cancelled_ends_within_a_second(VhostUserRequest request)
    {
        using var backend = Transfers.Backend(_path, new MemoryBackendState(new byte[10]),
            new VhostBackendFault(VhostBackendFaultKind.NoReply, AtRequest: request));
        using var cancel = new CancellationTokenSource();
        var transfer = Waiting.OnThread(() => Record.Exception(
            () => Transfers.Save(_path, new Endpoint.File(_folder["f"]), Timeout.InfiniteTimeSpan, cancellationToken: cancel.Token)));
        Waiting.Until(() => backend.Connections == 1, "the connection");
        var clock = Stopwatch.StartNew();
        cancel.Cancel();
        Assert.IsAssignableFrom<OperationCanceledException>(transfer.Result("the transfer"));
        Assert.InRange(clock.Elapsed.TotalSeconds, 0, 40);
        backend.Dispose();
        Assert.Empty(_folder.Entries);
    }

    private void PrepareFile(int size)
    {
        byte[] pattern = new byte[size];
        using var stream = new MemoryStream(pattern);
        new PatternBackendState(size).WriteTo(stream);
        States.Save(_folder["f"], pattern);
    }

    private void AssertFails(VhostTransferDirection direction, VhostBackendFault fault, int size, bool own, VhostError reason, string? pending)
    {
        PrepareFile(size);
        string[] before = _folder.Entries;
        using (Transfers.Backend(_path, new PatternBackendState(size), fault, own))
        {
            bool silent = reason is VhostError.Timeout or VhostError.TransferStalled;
            var clock = Stopwatch.StartNew();
            var e = Assert.Throws<VhostException>(
                () => Transfers.Run(direction, _path, _folder["f"], silent ? Transfers.Short : null));
            Assert.Equal(reason, e.Reason);
            Assert.Equal("Vhost" + reason, e.ErrorId);
            Assert.InRange(clock.Elapsed.TotalSeconds, 0, 40);
            Assert.NotEmpty(e.Transcript);
            Assert.NotEmpty(e.RecommendedAction);
            Assert.Contains(_path, e.Message);
            Assert.Equal(_path, e.Target);
            Assert.Contains($"pid {Environment.ProcessId}", e.Peer);
            Assert.Contains(pending ?? "", e.Message);
        }

        Assert.Equal(before, _folder.Entries);
        Assert.True(States.Verify(_folder["f"]).Report.Passed);
    }

    // The request that stands in the error when a back-end says nothing at another one.
    private static string Pending(VhostUserRequest request) => request switch
    {
        VhostUserRequest.SetOwner => "GET_PROTOCOL_FEATURES",
        VhostUserRequest.SetProtocolFeatures => "SET_DEVICE_STATE_FD",
        _ => VhostUserHeader.NameOf(request),
    };
}
