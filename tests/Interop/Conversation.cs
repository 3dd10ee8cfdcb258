using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using MigrationOps.Engine.Vhost;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests;

/// <summary>Runs an action at a line of the conversation with a back-end, on the thread that holds it.</summary>
internal sealed class AtLine(string text, Action action) : ILogger
{
    internal bool Reached { get; private set; }

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        if (!Reached && formatter(state, exception).Contains(text, StringComparison.Ordinal))
        {
            Reached = true;
            action();
        }
    }
}

/// <summary>What the tests of real back-ends share.</summary>
internal static partial class Conversation
{
    internal const int Stop = 19;
    internal const int Kill = 9;

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int KillNative(int pid, int signal);

    internal static void Signal(int pid, int signal) => Assert.Equal(0, KillNative(pid, signal));

    /// <summary>Sends one message without an undisciplined front-end's usual preparations, and gives the 64-bit answer.</summary>
    internal static ulong AskAtOnce(string socketPath, VhostUserRequest request)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        using var connection = Transport.ConnectUnix(socketPath, scope);
        connection.Send(VhostUserHeader.Compose(request, VhostUserHeader.Version, default), default, scope.StartDeadline(), request.ToString());
        using var received = new FdQueue();
        byte[] reply = new byte[VhostUserHeader.Length + sizeof(ulong)];
        Assert.True(connection.TryReceiveExactly(reply, received, scope.StartDeadline(), "the answer"));
        var reader = WireReader.LittleEndian(reply);
        Assert.True(VhostUserHeader.TryRead(ref reader, out var header));
        Assert.Equal((request, 5u, 8u, 0), (header.Request, header.Flags, header.Size, received.Count));
        return BinaryPrimitives.ReadUInt64LittleEndian(reply.AsSpan(VhostUserHeader.Length));
    }

    internal static VhostStateTransfer Save(string socketPath, string file, bool raw = false, ILogger? logger = null)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        return VhostStateSaver.Save(
            new VhostTransferOptions { SocketPath = socketPath, Endpoint = new Endpoint.File(file), Raw = raw }, scope, logger);
    }

    internal static VhostStateTransfer Load(string socketPath, string file, bool raw = false, ILogger? logger = null)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(60));
        return VhostStateLoader.Load(
            new VhostTransferOptions { SocketPath = socketPath, Endpoint = new Endpoint.File(file), Raw = raw }, scope, logger);
    }

    internal static string Vector(string name) => Path.Combine(AppContext.BaseDirectory, "Vectors", "Vhost", name);

    internal static Endpoint DescriptorOf(SafeHandle handle)
        => Endpoint.Parse("fd:" + handle.DangerousGetHandle().ToString(CultureInfo.InvariantCulture));
}
