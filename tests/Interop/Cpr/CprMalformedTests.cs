using System.Runtime.InteropServices;
using System.Text;
using MigrationOps.Engine.Cpr;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Interop.Tests.Cpr;

/// <summary>Each malformed state, given to our receiver and to a real QEMU target: a named error here, and what QEMU does.</summary>
public class CprMalformedTests
{
    private const string Accepts = "(takes it in silence)";

    // One message: its bytes, and how many descriptors come with it.
    private static readonly byte[] s_header = [0x51, 0x43, 0x50, 0x52, 0, 0, 0, 1];

    public static TheoryData<string, (byte[] Bytes, int Descriptors)[], CprError?, string> States => new()
    {
        { "right", [(s_header, 0), (Entry("x"), 0), (" "u8.ToArray(), 1), ([0], 0)], null, Accepts },
        { "nothing", [], CprError.Truncated, "Not a migration stream (bad magic 0)" },
        { "bad magic", [("QEVM\0\0\0\u0003"u8.ToArray(), 0)], CprError.BadMagic, "Not a migration stream (bad magic 5145564d)" },
        { "bad version", [("QCPR\0\0\0\u0002\0"u8.ToArray(), 0)], CprError.UnsupportedVersion, "Unsupported migration stream version 2" },
        { "namelen 2^31", [(s_header, 0), (Entry("x", length: 0x80000000), 0), (" "u8.ToArray(), 1), ([0], 0)], CprError.NameTooLong,
            "failed to allocate 18446744071562067968 bytes" },
        { "namelen 2^31 - 1", [(s_header, 0), (Entry("x", length: 0x7fffffff), 0), (" "u8.ToArray(), 1), ([0], 0)], CprError.NameTooLong,
            "Failed to load cpr fd:name" },
        { "no NUL", [(s_header, 0), (Entry("x", length: 1)[..6], 0), ([0, 0, 0, 0, 0x20], 1), ([0], 0)], CprError.InvalidName, Accepts },
        { "another marker", [(s_header, 0), ([7, .. Entry("x")[1..]], 0), (" "u8.ToArray(), 1), ([0], 0)], CprError.InvalidMarker, Accepts },
        { "descriptor missing", [(s_header, 0), (Entry("x"), 0), (" "u8.ToArray(), 0), ([0], 0)], CprError.MissingDescriptor,
            "Failed to load cpr fd:namelen" },
        { "descriptor too many", [(s_header, 0), (Entry("x"), 0), (" "u8.ToArray(), 2), ([0], 0)], CprError.UnclaimedDescriptors, Accepts },
        // More than the 16 for which QEMU has room, so that its kernel sets MSG_CTRUNC and drops one. Ours has room for a whole
        // message; what it says when descriptors are dropped all the same is in CprManyEntriesTests.
        { "17 descriptors at once", [(s_header, 0), (Entry("x"), 0), (" "u8.ToArray(), 17), ([0], 0)], CprError.UnclaimedDescriptors, Accepts },
        { "the same key twice", [(s_header, 0), (Entry("x"), 0), (" "u8.ToArray(), 1), (Entry("x"), 0), (" "u8.ToArray(), 1), ([0], 0)],
            CprError.DuplicateEntry, Accepts },
        { "bytes behind the end", [(s_header, 0), (Entry("x"), 0), (" "u8.ToArray(), 1), ([0, 1, 2, 3], 0)], CprError.TrailingData, Accepts },
        { "an unknown section", [(s_header, 0), ([0, 5, 10, .. "CprState/x"u8, 0, 0, 0, 1], 0)], CprError.UnsupportedSection,
            "vmstate_load_state error -2" },
    };

    [Theory]
    [MemberData(nameof(States))]
    public void A_malformed_state_is_a_named_error_here_and_qemu_does_this(
        string what, (byte[] Bytes, int Descriptors)[] messages, CprError? ours, string qemus)
    {
        using var guest = new CprGuest();
        Assert.Equal((what, ours), (what, ReceiveHere(guest, messages)));
        Assert.Equal((what, qemus), (what, ReceiveInQemu(guest, messages, qemus)));
    }

    [Fact]
    public void A_name_of_length_zero_is_a_named_error_here_and_crashes_qemu()
    {
        using var guest = new CprGuest();
        (byte[], int)[] messages = [(s_header, 0), ([1, 0, 0, 0, 0, 0, 0, 0, 0, 0x20], 1), ([0], 0)];
        Assert.Equal(CprError.InvalidName, ReceiveHere(guest, messages));
        // SIGSEGV, without a message.
        Assert.StartsWith("exit code 139:", ReceiveInQemu(guest, messages, "a message"));
    }

    [Fact]
    public void A_state_truncated_at_any_byte_is_an_error_here_and_in_qemu()
    {
        (byte[] Bytes, int Descriptors)[] whole = [(s_header, 0), (Entry("m0"), 0), (" "u8.ToArray(), 1)];
        int length = whole.Sum(message => message.Bytes.Length);
        for (int kept = 0; kept <= length; kept++)
        {
            using var guest = new CprGuest();
            (byte[], int)[] messages = [.. Truncate(whole, kept)];
            Assert.True(CprError.Truncated == ReceiveHere(guest, messages), $"{kept} bytes");
            string answer = ReceiveInQemu(guest, messages, "error -5");
            Assert.True(answer is "error -5" || kept < 8, $"{kept} bytes: {answer}");
        }
    }

    private static CprError? ReceiveHere(CprGuest guest, (byte[] Bytes, int Descriptors)[] messages)
    {
        using var listener = CprListener.Listen(guest.InSocket, guest.Scope);
        using var connection = Transport.ConnectUnix(guest.InSocket, guest.Scope);
        Send(connection, guest.Scope, messages);
        try
        {
            using var receiver = listener.Accept(CprListener.DefaultUsers);
            receiver.Receive().Dispose();
            return null;
        }
        catch (CprException e)
        {
            return e.Reason;
        }
    }

    /// <summary>Gives the expected answer if QEMU's log has it, else what it said or did.</summary>
    private static string ReceiveInQemu(CprGuest guest, (byte[] Bytes, int Descriptors)[] messages, string expected)
    {
        var target = guest.StartTarget();
        using var connection = Transport.ConnectUnix(guest.OutSocket, guest.Scope);
        Send(connection, guest.Scope, messages);
        connection.WaitForHangup(guest.Scope.StartDeadline(), "QEMU to close the channel");
        if (expected == Accepts)
        {
            // It opens its main socket and its monitor only when it has accepted the state.
            target.WaitForSocket(guest.MainSocket);
            return Accepts;
        }

        int code = target.WaitForExit();
        return code != 0 && target.Output.Contains(expected, StringComparison.Ordinal) ? expected : $"exit code {code}: {target.Output}";
    }

    private static void Send(UnixConnection connection, TransferScope scope, (byte[] Bytes, int Descriptors)[] messages)
    {
        using var file = File.OpenHandle("/dev/null", FileMode.Open, FileAccess.ReadWrite);
        foreach (var (bytes, descriptors) in messages)
        {
            SafeHandle[] handles = [.. Enumerable.Repeat(file, descriptors)];
            connection.Send(bytes, handles, scope.StartDeadline(), "a test message");
        }

        connection.ShutdownWrite();
    }

    private static IEnumerable<(byte[], int)> Truncate((byte[] Bytes, int Descriptors)[] messages, int kept)
    {
        foreach (var (bytes, descriptors) in messages)
        {
            int count = Math.Min(kept, bytes.Length);
            kept -= count;
            if (count > 0)
            {
                yield return (bytes[..count], descriptors);
            }
        }
    }

    private static byte[] Entry(string name, uint? length = null)
    {
        uint size = length ?? (uint)name.Length + 1;
        return [1, (byte)(size >> 24), (byte)(size >> 16), (byte)(size >> 8), (byte)size, .. Encoding.ASCII.GetBytes(name), 0, 0, 0, 0, 0];
    }
}
