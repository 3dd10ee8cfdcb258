using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Interop.Tests.Rehearsal;

/// <summary>Streams of waiting VMs, each command line saved once, and copies of them with altered bytes.</summary>
public sealed class SourceStreams : IDisposable
{
    private readonly ConcurrentDictionary<string, string> _saved = [];
    private int _count;

    internal TestFolder Folder { get; } = new();

    /// <summary>The stream of a VM that never ran.</summary>
    internal string Save(string arguments, string program = "qemu-system-x86_64", params string[] capabilities)
        => _saved.GetOrAdd($"{program} {arguments} {string.Join(' ', capabilities)}", _ =>
        {
            string name = $"s{Interlocked.Increment(ref _count)}";
            string path = Folder.File(name + ".stream");
            using var qemu = QemuProcess.Start(Folder, name, [.. Words(arguments), "-S"], program: program);
            foreach (string capability in capabilities)
            {
                qemu.SetCapability(capability);
            }

            qemu.Migrate(IsOlder(program) ? $"exec:cat > {path}" : $"file:{path}");
            qemu.WaitForMigration("completed");
            return path;
        });

    /// <summary>A copy with other bytes.</summary>
    internal string Alter(string stream, Func<byte[], byte[]> alter)
    {
        string path = Folder.File($"s{Interlocked.Increment(ref _count)}.stream");
        File.WriteAllBytes(path, alter(File.ReadAllBytes(stream)));
        return path;
    }

    /// <summary>A copy with other bytes in a field of a device.</summary>
    internal string AlterField(string stream, string device, string[] field, byte[] value)
    {
        MigrationStreamDevice found = MigrationStreams.GetDevices(new MigrationStreamInput { Path = stream }, device)[0];
        MigrationStreamField? at = found[field[0]];
        foreach (string name in field.Skip(1))
        {
            at = at?[name];
        }

        Assert.True(at is not null, $"{device} has no {string.Join('.', field)}:\n{found.Tree}");
        return Alter(stream, bytes =>
        {
            value.CopyTo(bytes, at!.Offset);
            return bytes;
        });
    }

    /// <summary>Loads a stream as an operator would: -incoming, and what the process prints until it has loaded or ended.</summary>
    internal (bool Loads, string Words) Load(string stream, string target, string program = "qemu-system-x86_64", params string[] capabilities)
    {
        using var qemu = QemuProcess.Start(Folder, Guid.NewGuid().ToString("N")[..8],
            [.. SourceStreams.Words(target), "-S", "-incoming", "defer"], program: program);
        foreach (string capability in capabilities)
        {
            qemu.SetCapability(capability);
        }

        qemu.Send("migrate-incoming", new JsonObject { ["uri"] = IsOlder(program) ? $"exec:cat {stream}" : $"file:{stream}" });
        bool ended = false;
        bool completed = false;
        qemu.WaitUntil(() => ended = qemu.HasExited || (completed = IsCompleted(qemu)), "the verdict");
        Assert.True(ended);
        if (completed && Answers(qemu))
        {
            // What it printed last is on its way until it has ended.
            qemu.Kill();
            return (true, qemu.Output);
        }

        qemu.WaitForExit();
        return (false, qemu.Output);
    }

    // QEMU 7.2 has no file: of its own.
    private static bool IsOlder(string program) => program.EndsWith("-older", StringComparison.Ordinal);

    private static bool IsCompleted(QemuProcess qemu)
    {
        try
        {
            return qemu.MigrationStatus == "completed";
        }
        catch (Exception e) when (e is IOException or System.Net.Sockets.SocketException)
        {
            return false;
        }
    }

    private static bool Answers(QemuProcess qemu)
    {
        try
        {
            qemu.Command("query-status");
            qemu.Command("query-name");
            return true;
        }
        catch (Exception e) when (e is IOException or System.Net.Sockets.SocketException)
        {
            return false;
        }
    }

    internal static string[] Words(string arguments) => arguments.Split(' ', StringSplitOptions.RemoveEmptyEntries);

    public void Dispose() => Folder.Dispose();
}
