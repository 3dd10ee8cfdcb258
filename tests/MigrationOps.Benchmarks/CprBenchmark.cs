using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Benchmarks;

/// <summary>
/// The hand-over of many descriptors: from a checked set to a received one, against a bare loop that sends the same
/// messages to a bare loop that receives them, each end on a thread of its own and waiting in poll(2).
/// </summary>
internal sealed unsafe class CprBenchmark : TransferBenchmark
{
    internal override string Name => "cpr";

    internal override string Description => "save and restore of a CPR state with many descriptors";

    internal override void Run(BenchmarkReport report)
    {
        using var memory = MemFd.Create("benchmark", 4096);
        // The larger first: then the smaller finds compiled code on either side.
        double tenThousand = Measure(report, memory, 10_000);
        double thousand = Measure(report, memory, 1_000);
        report.Figure("10,000 against 1,000 entries, each", tenThousand / 10 / thousand, "times", 1.5);
    }

    private static double Measure(BenchmarkReport report, SafeFileHandle memory, int count)
    {
        CprEntry[] entries = [.. Enumerable.Range(0, count).Select(i => new CprEntry(CprName.Parse($"/objects/ram{i}"), i, memory, false))];
        byte[][] texts = [.. entries.Select(Text)];
        return report.CompareTime($"{count:N0} descriptors", count, 1.5, () => Ours(entries), () => Reference(texts, memory)).TotalSeconds;
    }

    private static TimeSpan Ours(CprEntry[] entries)
    {
        using var scope = new TransferScope(TransferScope.DefaultTimeout);
        using var pair = new Pair(scope);
        using var receiver = new CprReceiver(pair.Accepted, CprListener.DefaultUsers);
        using var sender = CprSender.Over(pair.Connected);
        CprSet? set = null;
        var time = BenchmarkReport.Time(() =>
        {
            var receiving = new Thread(() => set = receiver.Receive());
            receiving.Start();
            CprSender.Check(entries);
            sender.Send(entries, null);
            receiving.Join();
        });
        set!.Dispose();
        return time;
    }

    private static TimeSpan Reference(byte[][] texts, SafeFileHandle memory)
    {
        using var scope = new TransferScope(TransferScope.DefaultTimeout);
        using var pair = new Pair(scope);
        int[] received = new int[texts.Length];
        int from = (int)pair.Connected.Handle.DangerousGetHandle();
        int to = (int)pair.Accepted.Handle.DangerousGetHandle();
        var time = BenchmarkReport.Time(() =>
        {
            var receiving = new Thread(() => ReceiveAll(to, received));
            receiving.Start();
            SendAll(from, texts, (int)memory.DangerousGetHandle());
            receiving.Join();
        });
        foreach (int fd in received)
        {
            new SafeFileHandle(fd, true).Dispose();
        }

        return time;
    }

    private static void SendAll(int socket, byte[][] texts, int fd)
    {
        byte dummy = 0x20;
        long* control = stackalloc long[3];
        foreach (byte[] text in texts)
        {
            fixed (byte* bytes = text)
            {
                Send(socket, bytes, text.Length, null);
            }

            control[0] = 20;
            ((int*)control)[2] = SocketCalls.SocketLevel;
            ((int*)control)[3] = SocketCalls.RightsType;
            ((int*)control)[4] = fd;
            Send(socket, &dummy, 1, (byte*)control);
        }
    }

    private static void Send(int socket, byte* bytes, int length, byte* control)
    {
        var vector = new SocketCalls.IoVector { Base = bytes, Length = (nuint)length };
        var message = new SocketCalls.MessageHeader
        {
            Vectors = &vector,
            VectorCount = 1,
            Control = control,
            ControlLength = control is null ? 0u : 24u,
        };
        while (SocketCalls.SendMessage(socket, &message, SocketCalls.NoSignal | SocketCalls.DontWait) != length)
        {
            Wait(socket, PollEvents.Writable);
        }
    }

    private static void ReceiveAll(int socket, int[] received)
    {
        byte* buffer = stackalloc byte[4096];
        byte* control = stackalloc byte[512];
        for (int count = 0; count < received.Length;)
        {
            var vector = new SocketCalls.IoVector { Base = buffer, Length = 4096 };
            var message = new SocketCalls.MessageHeader { Vectors = &vector, VectorCount = 1, Control = control, ControlLength = 512 };
            if (SocketCalls.ReceiveMessage(socket, &message, SocketCalls.DontWait | SocketCalls.CloseOnExecReceived) < 0)
            {
                Wait(socket, PollEvents.Readable);
            }
            else if (message.ControlLength > 0)
            {
                received[count++] = ((int*)control)[4];
            }
        }
    }

    // Whatever keeps deadlines waits like this; a blocking call cannot.
    private static void Wait(int socket, PollEvents events)
    {
        if (NativeError.Last != NativeError.EAGAIN)
        {
            throw new InvalidOperationException(NativeError.Describe(NativeError.Last));
        }

        Poll.Wait([new Poll.PollFd { Fd = socket, Events = events }], -1);
    }

    private static byte[] Text(CprEntry entry)
    {
        var output = new System.Buffers.ArrayBufferWriter<byte>();
        CprStateEncoder.WriteEntry(output, entry.Name, entry.Id);
        return output.WrittenSpan.ToArray();
    }

    private sealed class Pair : IDisposable
    {
        private readonly Listener _listener;

        internal Pair(TransferScope scope)
        {
            string path = string.Create(CultureInfo.InvariantCulture, $"@migrationops-benchmark-{Environment.ProcessId}");
            _listener = Transport.Listen(new Endpoint.Unix(path), TransportSecurity.Default, scope);
            Connected = Transport.ConnectUnix(path, scope);
            Accepted = _listener.AcceptUnix("the benchmark");
        }

        internal UnixConnection Connected { get; }

        internal UnixConnection Accepted { get; }

        public void Dispose()
        {
            Connected.Dispose();
            Accepted.Dispose();
            _listener.Dispose();
        }
    }
}
