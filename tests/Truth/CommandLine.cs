using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace MigrationOps.Truth;

/// <summary>How a QEMU is started: which program, with which arguments.</summary>
/// <param name="Program">A peer's name, such as qemu-system-x86_64-older.</param>
/// <param name="Arguments">The arguments that describe the VM, as one would type them.</param>
internal sealed record CommandLine(string Program, string Arguments)
{
    internal const string Booted = "#booted ";

    private static readonly string[] Suffixes = ["-older", "-trixie", "-newer"];

    /// <summary>Names the stream that this command line writes.</summary>
    internal string Key => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes($"{Program}\n{Arguments}")).AsSpan(0, 10));

    /// <summary>True if the guest's firmware runs before the VM is saved.</summary>
    internal bool IsBooted => Arguments.StartsWith(Booted, StringComparison.Ordinal);

    internal bool IsOlder => Program.EndsWith("-older", StringComparison.Ordinal);

    /// <summary>The release of QEMU that install-peers.sh gets under this name.</summary>
    internal string Release => Array.Find(Suffixes, s => Program.EndsWith(s, StringComparison.Ordinal)) switch
    {
        "-older" => "7.2",
        "-trixie" => "10.0.13",
        "-newer" => "11.1",
        _ => "10.0.2",
    };

    internal string[] Words => (IsBooted ? Arguments[Booted.Length..] : Arguments).Split(' ', StringSplitOptions.RemoveEmptyEntries);

    /// <summary>The machine type without its properties.</summary>
    internal string Machine => Words[Array.IndexOf(Words, "-M") + 1].Split(',')[0];

    /// <summary>The same VM on another release of QEMU.</summary>
    internal CommandLine On(string suffix)
    {
        string plain = Suffixes.Aggregate(Program, (name, s) => name.EndsWith(s, StringComparison.Ordinal) ? name[..^s.Length] : name);
        return this with { Program = plain + suffix };
    }

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Program} {Arguments}");
}

/// <summary>A stream's writer and the QEMU that is to load it.</summary>
internal sealed record TruthPair(string Kind, CommandLine Source, CommandLine Target);
