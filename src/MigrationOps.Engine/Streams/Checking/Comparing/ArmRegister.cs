using System.Globalization;

namespace MigrationOps.Engine.Streams;

/// <summary>An Arm system register by KVM's encoding, which QEMU's streams use.</summary>
internal static class ArmRegister
{
    private const ulong ClassMask = 0x0fff_0000;
    private const ulong SystemClass = 0x0013_0000;

    private static readonly Dictionary<(int, int, int, int, int), string> Names = new()
    {
        [(3, 0, 0, 0, 0)] = "MIDR_EL1",
        [(3, 0, 0, 0, 5)] = "MPIDR_EL1",
        [(3, 0, 0, 0, 6)] = "REVIDR_EL1",
        [(3, 0, 0, 4, 0)] = "ID_AA64PFR0_EL1",
        [(3, 0, 0, 4, 1)] = "ID_AA64PFR1_EL1",
        [(3, 0, 0, 4, 4)] = "ID_AA64ZFR0_EL1",
        [(3, 0, 0, 5, 0)] = "ID_AA64DFR0_EL1",
        [(3, 0, 0, 6, 0)] = "ID_AA64ISAR0_EL1",
        [(3, 0, 0, 6, 1)] = "ID_AA64ISAR1_EL1",
        [(3, 0, 0, 7, 0)] = "ID_AA64MMFR0_EL1",
        [(3, 0, 0, 7, 1)] = "ID_AA64MMFR1_EL1",
        [(3, 0, 0, 7, 2)] = "ID_AA64MMFR2_EL1",
        [(3, 1, 0, 0, 1)] = "CLIDR_EL1",
        [(3, 3, 0, 0, 1)] = "CTR_EL0",
        [(3, 1, 11, 0, 2)] = "L2CTLR_EL1",
        [(3, 3, 9, 12, 0)] = "PMCR_EL0",
        [(3, 3, 9, 12, 6)] = "PMCEID0_EL0",
        [(3, 3, 9, 12, 7)] = "PMCEID1_EL0",
    };

    /// <summary>A name, or the register's fields as the architecture writes them.</summary>
    internal static string NameOf(ulong index)
    {
        if (!IsSystem(index))
        {
            var (cp, opc1, n, m, opc2) = OldFields(index);
            return string.Create(CultureInfo.InvariantCulture, $"p{cp} c{n} c{m} {opc1} {opc2}");
        }

        var fields = Fields(index);
        return Names.TryGetValue(fields, out string? name) ? name : string.Create(CultureInfo.InvariantCulture,
            $"S{fields.Op0}_{fields.Op1}_C{fields.Crn}_C{fields.Crm}_{fields.Op2}");
    }

    /// <summary>
    /// True for a register that says what the CPU is: the identification space (CRn 0, without the cache selection), the
    /// events that its performance monitor knows, and L2CTLR, which has the number of CPUs.
    /// </summary>
    internal static bool IsConstant(ulong index)
    {
        if (!IsSystem(index))
        {
            var (cp, opc1, n, m, opc2) = OldFields(index);
            return cp == 15 && ((n == 0 && opc1 is 0 or 1) || (n, m, opc1, opc2) == (9, 0, 1, 2));
        }

        var (op0, op1, crn, crm, op2) = Fields(index);
        return op0 == 3 && (op1, crn, crm, op2) switch
        {
            (0 or 1, 0, _, _) => true,
            (3, 0, 0, not 7) => true,
            (3, 9, 12, 6 or 7) => true,
            (1, 11, 0, 2) => true,
            _ => false,
        };
    }

    private static (int Cp, int Opc1, int Crn, int Crm, int Opc2) OldFields(ulong index)
        => ((int)(index >> 16 & 0xf), (int)(index >> 3 & 0xf), (int)(index >> 11 & 0xf), (int)(index >> 7 & 0xf), (int)(index & 7));

    /// <summary>Smaller for a register that says more: the model's number, then those with a name, then the AArch32 view of the same.</summary>
    internal static int Rank(ulong index)
        => !IsSystem(index) ? 3 : Fields(index) is (3, 0, 0, 0, 0) ? 0 : Names.ContainsKey(Fields(index)) ? 1 : 2;

    private static bool IsSystem(ulong index) => (index & ClassMask) == SystemClass;

    private static (int Op0, int Op1, int Crn, int Crm, int Op2) Fields(ulong index)
        => ((int)(index >> 14 & 3), (int)(index >> 11 & 7), (int)(index >> 7 & 0xf), (int)(index >> 3 & 0xf), (int)(index & 7));
}
