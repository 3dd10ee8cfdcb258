using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Interop.Tests.Streams;

/// <summary>Makes real migration streams with real QEMUs.</summary>
internal sealed class StreamLab : IDisposable
{
    private int _count;

    internal TestFolder Folder { get; } = new();

    /// <summary>Boots a machine whose boot sector counts in 64 KiB of its memory for ever, so that pages get dirty.</summary>
    internal QemuProcess Boot(string machine, params string[] more)
    {
        string image = Folder.File("boot.img");
        if (!File.Exists(image))
        {
            // Firmware does not boot from a disk of one sector.
            var sector = new byte[1 << 20];
            byte[] code = [0xb8, 0x00, 0x10, 0x8e, 0xd8, 0x31, 0xf6, 0xfe, 0x04, 0x83, 0xc6, 0x40, 0x75, 0xf9, 0xeb, 0xf5];
            code.CopyTo(sector, 0);
            (sector[510], sector[511]) = (0x55, 0xaa);
            File.WriteAllBytes(image, sector);
        }

        // Under nested KVM the firmware may never get as far as the boot sector.
        string[] arguments = machine.StartsWith("virt", StringComparison.Ordinal)
            ? ["-M", machine, "-cpu", "cortex-a57", "-accel", "tcg", "-m", "64"]
            : ["-M", machine, "-accel", "tcg", "-m", "32"];
        string[] disk = machine == "none" || machine.StartsWith("virt", StringComparison.Ordinal) ? [] :
            machine.StartsWith("microvm", StringComparison.Ordinal)
                ? ["-drive", $"file={image},format=raw,if=none,id=b,readonly=on", "-device", "virtio-blk-device,drive=b"]
                : ["-drive", $"file={image},format=raw,if=none,id=b,readonly=on", "-device", "virtio-blk-pci,drive=b"];
        return QemuProcess.Start(Folder, $"q{_count++}", [.. arguments, .. disk, .. more],
            program: machine.StartsWith("virt", StringComparison.Ordinal) ? "qemu-system-aarch64" : "qemu-system-x86_64");
    }

    /// <summary>Waits until the boot sector counts.</summary>
    internal static void WaitForGuest(QemuProcess qemu) => qemu.WaitUntil(
        () => !((string)qemu.Command("human-monitor-command", new JsonObject { ["command-line"] = "xp /1bx 0x10040" })!).Contains("0x00", StringComparison.Ordinal),
        "the guest to write into its memory");

    /// <summary>Migrates to a file and waits for the end.</summary>
    internal string Save(QemuProcess qemu, string name, string options = "")
    {
        string path = Folder.File(name);
        qemu.Migrate($"file:{path}{options}");
        qemu.WaitForMigration("completed");
        return path;
    }

    /// <summary>What QEMU's own script prints for the stream.</summary>
    internal static string Analyze(string path)
    {
        string script = Peers.RequireFile("share/qemu-scripts/analyze-migration.py");
        using var python = new PeerProcess(Peers.Require("python3"), "-c",
            $"import sys,runpy; sys.argv=['x','-f',{Quote(path)}]; sys.stdout=open({Quote(path + ".json")},'w'); runpy.run_path({Quote(script)},run_name='__main__'); sys.stdout.close()");
        Assert.True(python.WaitForExit() == 0, python.Output);
        return File.ReadAllText(path + ".json");
    }

    private static string Quote(string text) => JsonValue.Create(text).ToJsonString();

    public void Dispose() => Folder.Dispose();

    /// <summary>Accepts every connection of a migration and keeps what comes, as a target that never answers; or passes it on to a real one.</summary>
    internal sealed class Recorder : IDisposable
    {
        private readonly Socket _listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        private readonly CancellationTokenSource _stop = new();
        private readonly ConcurrentQueue<(string Name, Task Task)> _work = [];
        private readonly ConcurrentQueue<Socket> _sockets = [];
        private readonly Task _accepting;
        private readonly string _folder;
        private readonly int _connections;
        private readonly int? _target;

        /// <param name="folder">Where each connection gets a file.</param>
        /// <param name="connections">How many come. The source may be done with one before it has been accepted.</param>
        /// <param name="targetPort">Where to pass everything on to, if anywhere.</param>
        internal Recorder(string folder, int connections, int? targetPort = null)
        {
            (_folder, _connections, _target) = (Directory.CreateDirectory(folder).FullName, connections, targetPort);
            _listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            _listener.Listen();
            _accepting = Start("accept", Accept);
        }

        internal string Uri => $"tcp:127.0.0.1:{((IPEndPoint)_listener.LocalEndPoint!).Port}";

        /// <summary>Waits until every connection has come and ended. A test that fails before is not held up by them.</summary>
        internal void Finish()
        {
            _stop.CancelAfter(TimeSpan.FromSeconds(30));
            Join();
        }

        public void Dispose()
        {
            _stop.Cancel();
            _accepting.Wait();
            foreach (var socket in _sockets)
            {
                socket.Dispose();
            }

            Join();
            _listener.Dispose();
            _stop.Dispose();
        }

        private void Join()
        {
            // Accepting starts the others, so that it has ended before they are all known.
            while (_work.TryDequeue(out var work))
            {
                Assert.True(work.Task.Wait(TimeSpan.FromSeconds(60)), $"It did not end: {work.Name}.");
            }
        }

        private Task Start(string name, Action work)
        {
            var task = Task.Factory.StartNew(work, TaskCreationOptions.LongRunning);
            _work.Enqueue((name, task));
            return task;
        }

        private void Accept()
        {
            try
            {
                for (int i = 0; i < _connections; i++)
                {
                    var source = _listener.AcceptAsync(_stop.Token).AsTask().GetAwaiter().GetResult();
                    _sockets.Enqueue(source);
                    Socket? target = null;
                    if (_target is { } port)
                    {
                        target = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
                        _sockets.Enqueue(target);
                        target.Connect(IPAddress.Loopback, port);
                        Start($"answers to connection {i}", () => Copy(target, source, null));
                    }

                    string path = Path.Combine(_folder, $"connection{i}.bin");
                    Start($"connection {i}", () => Copy(source, target, path));
                }
            }
            catch (OperationCanceledException)
            {
                // Fewer came; the test sees which are missing.
            }
        }

        private static void Copy(Socket from, Socket? to, string? path)
        {
            using var file = path is null ? null : File.Create(path);
            var buffer = new byte[65536];
            try
            {
                int count;
                while ((count = from.Receive(buffer)) > 0)
                {
                    file?.Write(buffer, 0, count);
                    to?.Send(buffer, 0, count, SocketFlags.None);
                }

                to?.Shutdown(SocketShutdown.Send);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // One side is gone, or the test; what came before is kept.
            }
        }
    }
}
