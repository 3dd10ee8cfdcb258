using System.Text.Json.Nodes;
using MigrationOps.Engine.Streams;

namespace MigrationOps.Interop.Tests.Streams;

/// <summary>Lets a real QEMU load a stream, and tells what it said.</summary>
internal static class LoadTruth
{
    /// <summary>True if the QEMU took the stream; what it printed comes with it.</summary>
    internal static (bool Loaded, string Output) Load(StreamLab lab, string stream, string machine, params string[] more)
    {
        using var qemu = lab.Boot(machine, [.. more, "-S", "-incoming", "defer"]);
        string status = "";
        try
        {
            qemu.Send("migrate-incoming", new JsonObject { ["uri"] = $"file:{stream}" });
            qemu.WaitUntil(() => (status = (string?)qemu.Send("query-migrate")["return"]?["status"] ?? "") is "completed" or "failed", "the load");

            // Devices complain, and run states are taken, when the load is over.
            qemu.Send("query-status");
        }
        catch (Exception e) when (e is IOException or System.Net.Sockets.SocketException)
        {
            // It refused the stream and ended.
            qemu.WaitForExit();
            return (false, qemu.Output);
        }

        // What it printed last is there once it has ended.
        qemu.Kill();
        return (status == "completed", qemu.Output);
    }

    /// <summary>Where a device's state lies in a stream, with its fields.</summary>
    internal static MigrationStreamDevice Device(string stream, string pattern)
        => MigrationStreams.GetDevices(new MigrationStreamInput { Path = stream }, pattern)[0];

    /// <summary>Writes a copy of a stream in which a big-endian number has another value.</summary>
    internal static string Patch(string stream, string name, MigrationStreamField field, ulong value)
    {
        byte[] bytes = File.ReadAllBytes(stream);
        for (int i = 0; i < field.Size; i++)
        {
            bytes[field.Offset + i] = (byte)(value >> (int)(8 * (field.Size - 1 - i)));
        }

        File.WriteAllBytes(name, bytes);
        return name;
    }

    /// <summary>The failed checks of a stream, by name.</summary>
    internal static DeviceStateCheck[] Failed(string stream)
        => [.. MigrationStreams.Test(new MigrationStreamInput { Path = stream }).Checks.Where(c => !c.Passed)];
}
