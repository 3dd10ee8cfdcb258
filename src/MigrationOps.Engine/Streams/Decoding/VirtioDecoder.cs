using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Storage;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// Takes the "virtio" field apart, which descriptions call one opaque value: the transport's state (PCI or MMIO), status,
/// features, configuration and queues, the device's own part, and the subsections that every virtio device ends with.
/// </summary>
internal sealed class VirtioDecoder
{
    private const int PciConfigLength = 256;
    private const int PcieConfigLength = 4096;
    private const int CapabilityPointer = 0x34;
    private const byte MsixCapability = 0x11;
    private const byte ExpressCapability = 0x10;
    private const int MaxQueues = 4096;
    private const int MmioStateLength = 12;
    private const int VersionLength = 4;

    private readonly string _device;
    private readonly byte[] _data;
    private readonly long _offset;
    private readonly List<StateNode> _nodes = [];

    private VirtioDecoder(string device, byte[] data, long offset) => (_device, _data, _offset) = (device, data, offset);

    /// <summary>Decodes the field's bytes, or gives null if they are of a transport that is not known.</summary>
    /// <param name="device">The device's layout or idstr, for the names of features.</param>
    /// <param name="data">The bytes.</param>
    /// <param name="offset">Where they lie in the stream.</param>
    internal static StateNode[]? Decode(string device, byte[] data, long offset)
        => new VirtioDecoder(device, data, offset).TryPci()
            ?? new VirtioDecoder(device, data, offset).TryMmio();

    private StateNode[]? TryPci()
    {
        var r = WireReader.BigEndian(_data, _offset);
        if (!r.TryReadUInt32(out uint version) || version != 2 || r.Remaining < PciConfigLength)
        {
            return null;
        }

        var config = r.Rest;
        bool express = HasCapability(config, ExpressCapability) is not null;
        int length = express ? PcieConfigLength : PciConfigLength;
        if (config.Length < length || (config[0] | config[1] << 8) != 0x1af4)
        {
            return null;
        }

        int? msix = HasCapability(config, MsixCapability);
        int vectors = msix is { } at ? ((config[at + 2] | config[at + 3] << 8) & 0x7ff) + 1 : 0;
        Add(ref r, "pci config", length, "buffer");
        Add(ref r, "irq_state", 16, "buffer");
        if (vectors > 0)
        {
            if (!Add(ref r, "msix table", 16 * vectors, "buffer") || !Add(ref r, "msix pba", (vectors + 7) / 8, "buffer")
                || !AddNumber(ref r, "config_vector", 2, out _))
            {
                return null;
            }
        }

        return TryCommon(ref r, vectors > 0, hasAlignment: false);
    }

    private StateNode[]? TryMmio()
    {
        var r = WireReader.BigEndian(_data, _offset);
        return r.Remaining > MmioStateLength && AddNumber(ref r, "host_features_sel", 4, out _) && AddNumber(ref r, "guest_features_sel", 4, out _)
            && AddNumber(ref r, "guest_page_shift", 4, out _)
            ? TryCommon(ref r, hasVector: false, hasAlignment: true)
            : null;
    }

    private StateNode[]? TryCommon(ref WireReader r, bool hasVector, bool hasAlignment)
    {
        if (!AddNumber(ref r, "status", 1, out _, VirtioNames.OfStatus) || !AddNumber(ref r, "isr", 1, out _)
            || !AddNumber(ref r, "queue_sel", 2, out _) || !AddNumber(ref r, "guest_features_low", 4, out _, FeatureNames)
            || !AddNumber(ref r, "config_len", 4, out ulong configLength) || configLength > (ulong)r.Remaining
            || !Add(ref r, "config", (int)configLength, "buffer")
            || !AddNumber(ref r, "num_queues", 4, out ulong queues) || queues > MaxQueues)
        {
            return null;
        }

        for (ulong i = 0; i < queues; i++)
        {
            var outer = _nodes.ToArray();
            long start = r.Offset;
            _nodes.Clear();
            bool whole = AddNumber(ref r, "num", 4, out _) && (!hasAlignment || AddNumber(ref r, "align", 4, out _)) && AddNumber(ref r, "desc", 8, out _)
                && AddNumber(ref r, "last_avail_idx", 2, out _) && (!hasVector || AddNumber(ref r, "vector", 2, out _));
            var queue = new StateNode { Name = $"queue[{i}]", Type = "struct", Offset = start, Size = r.Offset - start, Children = [.. _nodes], IsElement = true };
            _nodes.Clear();
            _nodes.AddRange(outer);
            _nodes.Add(queue);
            if (!whole)
            {
                return null;
            }
        }

        AddDeviceAndSubsections(ref r);
        return [.. _nodes];
    }

    // The device's own part has no length; the subsections of every virtio device begin with "virtio/".
    private void AddDeviceAndSubsections(ref WireReader r)
    {
        int start = NextSubsection(r.Rest, 0);
        int backend = FindBackendState(r.Rest[..start]);
        Add(ref r, "device", backend, "buffer");
        AddBackendState(ref r, start - backend);
        while (r.Remaining > 0)
        {
            long offset = r.Offset;
            int nameLength = r.Rest[1];
            string name = System.Text.Encoding.ASCII.GetString(r.Rest.Slice(2, nameLength));
            int next = NextSubsection(r.Rest, 1);
            int headLength = 6 + nameLength;
            if (name == "virtio/64bit_features" && next == headLength + 8)
            {
                r.TryReadBytes(headLength, out _);
                AddNumber(ref r, "guest_features", 8, out _, FeatureNames);
                continue;
            }

            _nodes.Add(new StateNode { Name = name, Type = "subsection", Offset = offset, Size = next, IsSubsection = true });
            r.TryReadBytes(next, out _);
        }
    }

    /// <summary>
    /// Where the subsection begins in which a vhost-user back-end of the device keeps its state (passt's is virtio-net-device/backend);
    /// the length of the device's part if it has none. Nothing follows it there, and its chunks end with the part.
    /// </summary>
    private static int FindBackendState(ReadOnlySpan<byte> device)
    {
        var name = "/backend"u8;
        for (int from = 0; device[from..].IndexOf(name) is >= 0 and var found; from += found + 1)
        {
            int end = from + found + name.Length;
            for (int length = name.Length; length <= Math.Min(byte.MaxValue, end - 2); length++)
            {
                if (device[end - length - 1] == length && device[end - length - 2] == StreamFormat.Subsection
                    && device[(end - length)..end].IndexOfAnyExceptInRange((byte)0x21, (byte)0x7e) < 0 && EndsWithChunks(device[end..]))
                {
                    return end - length - 2;
                }
            }
        }

        return device.Length;

        // A version, then chunks up to the end.
        static bool EndsWithChunks(ReadOnlySpan<byte> body)
        {
            var r = WireReader.BigEndian(body);
            r.TryReadBytes(VersionLength, out _);
            while (ChunkHeader.TryRead(ref r, out var chunk) && r.TryReadBytes((int)Math.Min(chunk.Length, int.MaxValue), out _))
            {
                if (chunk.IsEnd)
                {
                    return r.Remaining == 0;
                }
            }

            return false;
        }
    }

    private void AddBackendState(ref WireReader r, int length)
    {
        if (length == 0)
        {
            return;
        }

        long offset = r.Offset;
        int head = 6 + r.Rest[1];
        string name = System.Text.Encoding.ASCII.GetString(r.Rest.Slice(2, r.Rest[1]));
        _nodes.Add(new StateNode
        {
            Name = name,
            Type = "subsection",
            Offset = offset,
            Size = length,
            IsSubsection = true,
            Children = [new StateNode { Name = "backend", Type = "buffer", Offset = offset + head, Size = length - head }],
        });
        r.TryReadBytes(length, out _);
    }

    private static int NextSubsection(ReadOnlySpan<byte> data, int from)
    {
        while (true)
        {
            int found = data[from..].IndexOf("virtio/"u8);
            if (found < 0)
            {
                return data.Length;
            }

            found += from;
            if (found >= 2 && data[found - 2] == StreamFormat.Subsection && data[found - 1] >= 8 && found + data[found - 1] + 4 <= data.Length
                && found - 2 >= from)
            {
                return found - 2;
            }

            from = found + 1;
        }
    }

    private string FeatureNames(ulong features) => VirtioNames.OfFeatures(features, _device);

    private bool Add(ref WireReader r, string name, int length, string type)
    {
        long offset = r.Offset;
        if (length > 0)
        {
            if (!r.TryReadBytes(length, out _))
            {
                return false;
            }

            _nodes.Add(new StateNode { Name = name, Type = type, Offset = offset, Size = length });
        }

        return true;
    }

    private bool AddNumber(ref WireReader r, string name, int size, out ulong value, Func<ulong, string>? meaning = null)
    {
        value = 0;
        long offset = r.Offset;
        if (!r.TryReadBytes(size, out var raw))
        {
            return false;
        }

        foreach (byte b in raw)
        {
            value = value << 8 | b;
        }

        _nodes.Add(new StateNode { Name = name, Type = $"uint{8 * size}", Offset = offset, Size = size, Number = value, Text = meaning?.Invoke(value) });
        return true;
    }

    // A list of capabilities that a guest or a damaged stream tied into a ring ends after as many as fit.
    private static int? HasCapability(ReadOnlySpan<byte> config, byte id)
    {
        int at = config[CapabilityPointer] & 0xfc;
        for (int i = 0; i < 48 && at is >= 0x40 and <= PciConfigLength - 4; i++)
        {
            if (config[at] == id)
            {
                return at;
            }

            at = config[at + 1] & 0xfc;
        }

        return null;
    }
}
