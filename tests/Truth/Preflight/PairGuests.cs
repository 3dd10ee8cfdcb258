using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using MigrationOps.Engine.Qmp;

namespace MigrationOps.Truth.Preflight;

/// <summary>Firmware that does nothing but count, so that it shows whether the guest lives.</summary>
internal static class PairGuests
{
    private const string Counter = "0x7e00";

    // cli; xor ax,ax; mov ds,ax; again: add dword [0x7e00],1; jmp again
    private static readonly byte[] Counting = [0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x66, 0x83, 0x06, 0x00, 0x7e, 0x01, 0xeb, 0xf8];

    // The same with popcnt ax,ax in the loop. Without the feature the CPU raises an exception, for which nothing is there to take it.
    private static readonly byte[] Popcnt = [0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x66, 0x83, 0x06, 0x00, 0x7e, 0x01, 0xf3, 0x0f, 0xb8, 0xc8, 0xeb, 0xf4];

    // At the reset vector: jmp 0xff00
    private static readonly byte[] Reset = [0xe9, 0x0d, 0xff];

    /// <summary>Writes the firmware of a guest; null for QEMU's own.</summary>
    internal static string? Write(PairGuest? guest, string folder)
    {
        byte[]? code = guest switch { PairGuest.Counting => Counting, PairGuest.Popcnt => Popcnt, _ => null };
        if (code is null)
        {
            return null;
        }

        byte[] rom = new byte[65536];
        code.CopyTo(rom, 0xff00);
        Reset.CopyTo(rom, 0xfff0);
        string path = Path.Combine(folder, $"{guest}.rom");
        File.WriteAllBytes(path, rom);
        return path;
    }

    internal static async Task<long> CountAsync(QmpMonitor monitor)
    {
        var answer = await monitor.ExecuteAsync("human-monitor-command", new JsonObject { ["command-line"] = $"xp /1wx {Counter}" });
        string text = answer.ValueKind == JsonValueKind.String ? answer.GetString()! : "";
        return long.Parse(text.AsSpan(text.IndexOf("0x", StringComparison.Ordinal) + 2).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }
}
