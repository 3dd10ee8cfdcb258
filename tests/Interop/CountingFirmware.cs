using System.Globalization;
using System.Text.Json.Nodes;

namespace MigrationOps.Interop.Tests;

/// <summary>A guest's firmware that does nothing but count in its memory, so that a test can see whether it runs.</summary>
internal static class CountingFirmware
{
    private const string CounterAddress = "0x7e00";

    // cli; xor ax,ax; mov ds,ax; again: add dword [0x7e00],1; adc dword [0x7e04],0; jmp again
    private static readonly byte[] s_counting =
    [
        0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x66, 0x83, 0x06, 0x00, 0x7e, 0x01, 0x66, 0x83, 0x16, 0x04, 0x7e, 0x00, 0xeb, 0xf2,
    ];

    // At the reset vector: jmp 0xff00
    private static readonly byte[] s_reset = [0xe9, 0x0d, 0xff];

    internal static void Write(string path)
    {
        byte[] rom = new byte[65536];
        s_counting.CopyTo(rom, 0xff00);
        s_reset.CopyTo(rom, 0xfff0);
        File.WriteAllBytes(path, rom);
    }

    /// <summary>The guest's counter, read out of its memory.</summary>
    internal static ulong ReadCounter(QemuProcess qemu)
    {
        string text = (string)qemu.Command("human-monitor-command", new JsonObject { ["command-line"] = $"xp /1gx {CounterAddress}" })!;
        return ulong.Parse(text.AsSpan(text.IndexOf("0x", StringComparison.Ordinal) + 2).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }
}
