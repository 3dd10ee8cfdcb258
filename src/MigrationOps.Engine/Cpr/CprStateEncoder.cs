using System.Buffers;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Cpr;

/// <summary>
/// Encodes a CPR state into a buffer, piece by piece, byte for byte as QEMU writes it. It does no I/O: the sender puts
/// the descriptor's dummy byte on the wire itself, in a message of its own.
/// </summary>
internal static class CprStateEncoder
{
    /// <summary>Magic and version.</summary>
    public static void WriteHeader(IBufferWriter<byte> output)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteUInt32(CprFormat.Magic);
        writer.WriteUInt32(CprFormat.Version);
    }

    /// <summary>An entry up to its descriptor.</summary>
    public static void WriteEntry(IBufferWriter<byte> output, CprName name, int id)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteByte(CprFormat.ListElement);
        WriteName(writer, name);
        writer.WriteInt32(id);
    }

    /// <summary>An entry with its descriptor's number, as cpr-exec has it.</summary>
    public static void WriteExecEntry(IBufferWriter<byte> output, CprName name, int id, int descriptor)
    {
        WriteEntry(output, name, id);
        WireWriter.BigEndian(output).WriteInt32(descriptor);
    }

    /// <summary>The end of the list and, for QEMU 10.1 and later, the section of VFIO devices.</summary>
    /// <param name="output">Where the bytes go.</param>
    /// <param name="devices">Null for QEMU 10.0, which refuses the section even when it is empty.</param>
    public static void WriteEnd(IBufferWriter<byte> output, IReadOnlyList<CprVfioDevice>? devices)
    {
        var writer = WireWriter.BigEndian(output);
        writer.WriteByte(CprFormat.EndOfList);
        if (devices is null)
        {
            return;
        }

        writer.WriteByte(CprFormat.Subsection);
        writer.WriteByte((byte)CprFormat.VfioDevicesName.Length);
        writer.WriteBytes(CprFormat.VfioDevicesName);
        writer.WriteUInt32(CprFormat.VfioDevicesVersion);
        foreach (var device in devices)
        {
            writer.WriteByte(CprFormat.ListElement);
            WriteName(writer, device.Name);
            writer.WriteInt32(device.DeviceId);
            writer.WriteUInt32(device.IoasId);
            writer.WriteUInt32(device.HwptId);
        }

        writer.WriteByte(CprFormat.EndOfList);
    }

    private static void WriteName(WireWriter writer, CprName name)
    {
        writer.WriteInt32(name.Bytes.Length + 1);
        writer.WriteBytes(name.Bytes);
        writer.WriteByte(0);
    }
}
