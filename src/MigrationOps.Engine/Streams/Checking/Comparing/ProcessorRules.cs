using System.Globalization;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// What CPUs check of each other. An Arm CPU has its system registers in the stream as a list by encoding: one that the
/// destination's CPU lacks is a refusal, and so is a constant with another value. A POWER CPU has its version register.
/// </summary>
internal sealed class ProcessorRules(Findings findings, string device, DeviceComparer bytes)
{
    private const string IndexField = "cpreg_vmstate_indexes";
    private const string ValueField = "cpreg_vmstate_values";
    private const string SpecialRegisters = "env.spr";
    private const string CompatibilityMode = "cpu/compat";
    private const int ProcessorVersion = 287;
    private const int MaxShown = 4;

    internal void Check(StateNode state, IReadOnlyList<FieldPair> pairs)
    {
        if (Numbers(pairs, IndexField, isMine: true) is { Length: > 0 } indexes && Numbers(pairs, IndexField, isMine: false) is { Length: > 0 } indexesThere)
        {
            CheckRegisters(indexes, Numbers(pairs, ValueField, isMine: true), indexesThere, Numbers(pairs, ValueField, isMine: false));
        }

        CheckPower(state, pairs);
    }

    private void CheckRegisters(ulong[] mine, ulong[] values, ulong[] theirs, ulong[] valuesThere)
    {
        // The loader walks both lists, which are in order, and ends with the shorter: what comes after the last of its own is not seen.
        var known = theirs.ToHashSet();
        var unknown = mine.Where(i => !known.Contains(i) && i < theirs[^1]).ToList();
        if (unknown.Count > 0)
        {
            findings.Error(device, IndexField, "the CPU there lacks system registers that the stream has: another CPU model or feature",
                $"{unknown.Count}: {string.Join(", ", unknown.Take(MaxShown).Select(ArmRegister.NameOf))}{(unknown.Count > MaxShown ? ", …" : "")}");
        }

        var other = new List<(ulong Index, ulong Mine, ulong Theirs)>();
        for (int i = 0; i < mine.Length && i < values.Length; i++)
        {
            int j = Array.BinarySearch(theirs, mine[i]);
            if (j >= 0 && j < valuesThere.Length && values[i] != valuesThere[j] && ArmRegister.IsConstant(mine[i]))
            {
                other.Add((mine[i], values[i], valuesThere[j]));
            }
        }

        if (other.Count > 0)
        {
            // The one that names the model says most.
            var first = other.OrderBy(o => ArmRegister.Rank(o.Index)).First();
            string more = other.Count > 1 ? $" (and {other.Count - 1} more)" : "";
            findings.Error(device, ArmRegister.NameOf(first.Index), $"a register that says what the CPU is has another value there{more}: another CPU model or feature", Hex(first.Mine), Hex(first.Theirs));
        }
    }

    private void CheckPower(StateNode state, IReadOnlyList<FieldPair> pairs)
    {
        var mine = Numbers(pairs, SpecialRegisters, isMine: true);
        var theirs = Numbers(pairs, SpecialRegisters, isMine: false);
        if (mine.Length <= ProcessorVersion || theirs.Length <= ProcessorVersion || mine[ProcessorVersion] == theirs[ProcessorVersion])
        {
            return;
        }

        // A guest that agreed on a compatibility mode is held against that instead.
        var (a, b) = (Hex(mine[ProcessorVersion]), Hex(theirs[ProcessorVersion]));
        string path = $"{SpecialRegisters}[{ProcessorVersion}]";
        if (state.Child(CompatibilityMode)?.Children is [{ Number: > 0 }, ..])
        {
            findings.Warning(device, path, "the processor's version (PVR) is another one; the guest's compatibility mode must be one of the destination's CPU", a, b);
        }
        else
        {
            findings.Error(device, path, "the processor's version (PVR) is another one: another CPU model", a, b);
        }
    }

    private ulong[] Numbers(IReadOnlyList<FieldPair> pairs, string name, bool isMine)
    {
        var numbers = new List<ulong>();
        foreach (var pair in pairs.Where(p => p.Path == name || p.Path.StartsWith(name + "[", StringComparison.Ordinal)))
        {
            numbers.AddRange(isMine ? bytes.MyNumbers(pair.Mine) : bytes.TheirNumbers(pair.Theirs));
        }

        return [.. numbers];
    }

    private static string Hex(ulong value) => string.Create(CultureInfo.InvariantCulture, $"0x{value:x}");
}
