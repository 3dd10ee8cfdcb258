using System.Buffers.Binary;
using MigrationOps.Engine.Multifd;

namespace MigrationOps.Engine.Vfio;

/// <summary>Hears what the sections of a VFIO device hold, in order.</summary>
public interface IMarkerObserver
{
    /// <summary>Data of the device, in pieces.</summary>
    /// <param name="kind">The section's kind: with pre-copy <see cref="SectionKind.Part"/>, else <see cref="SectionKind.Last"/>.</param>
    /// <param name="data">The piece; valid during the call.</param>
    void Data(SectionKind kind, ReadOnlySpan<byte> data);

    /// <summary>The initial data of the device has all been sent.</summary>
    void InitialDataSent();

    /// <summary>The config state, both markers included.</summary>
    void Config(ReadOnlySpan<byte> body);
}

/// <summary>
/// Reads the marker stream of a VFIO device: the bodies of its sections in a main stream, or one that was stored alone.
/// It does no I/O.
/// </summary>
public sealed class MarkerParser : ISectionBody
{
    private const byte FooterType = 0x7e;
    private const int MarkerSize = 8;

    private readonly IMarkerObserver _observer;
    private readonly string _device;
    private readonly byte[] _configEnd;
    private SectionKind _kind;
    private ulong _dataLeft;
    private long _offset;
    private int _searched;

    /// <summary>Creates a parser.</summary>
    /// <param name="observer">Hears what the sections hold.</param>
    /// <param name="device">What errors call the device.</param>
    /// <param name="sectionId">The section's id, if it lies in a main stream: there the footer confirms the config state's end.</param>
    public MarkerParser(IMarkerObserver observer, string device, uint? sectionId = null)
    {
        _observer = observer;
        _device = device;
        _configEnd = new byte[MarkerSize + (sectionId is null ? 0 : 5)];
        BinaryPrimitives.WriteUInt64BigEndian(_configEnd, (ulong)VfioMarker.EndOfState);
        if (sectionId is { } id)
        {
            _configEnd[MarkerSize] = FooterType;
            BinaryPrimitives.WriteUInt32BigEndian(_configEnd.AsSpan(MarkerSize + 1), id);
        }
    }

    /// <inheritdoc/>
    public void Begin(SectionKind kind, long offset)
    {
        _kind = kind;
        _offset = offset;
        _dataLeft = 0;
        _searched = 0;
    }

    /// <inheritdoc/>
    public int Parse(ReadOnlySpan<byte> data, out bool ended)
    {
        int used = Step(data, out ended);
        _offset += used;
        return used;
    }

    /// <summary>
    /// How many bytes more <see cref="Parse"/> needs to go on, never one beyond the body: for a source that cannot be read ahead.
    /// </summary>
    /// <param name="held">The bytes that were given and not used.</param>
    /// <param name="most">The most that can be held.</param>
    internal int Wanted(ReadOnlySpan<byte> held, int most)
        => _dataLeft > 0 ? (int)Math.Min(_dataLeft, (ulong)most)
            : held.Length < MarkerSize ? MarkerSize - held.Length
            : BinaryPrimitives.ReadUInt64BigEndian(held) == (ulong)VfioMarker.DataState ? MarkerSize + 8 - held.Length
            : 1;

    /// <summary>The stored stream has ended.</summary>
    /// <param name="rest">The bytes that were not used.</param>
    public void Finish(int rest)
    {
        if (_dataLeft > 0 || rest > 0)
        {
            throw Fail(VfioError.TruncatedSection, _dataLeft > 0
                ? $"{_dataLeft:N0} bytes of the device's data are missing" : "the section ends inside a marker or a config state");
        }
    }

    private int Step(ReadOnlySpan<byte> data, out bool ended)
    {
        ended = false;
        if (_dataLeft > 0)
        {
            int count = (int)Math.Min(_dataLeft, (ulong)data.Length);
            _observer.Data(_kind, data[..count]);
            _dataLeft -= (ulong)count;
            return count;
        }

        if (data.Length < MarkerSize)
        {
            return 0;
        }

        ulong marker = BinaryPrimitives.ReadUInt64BigEndian(data);
        switch ((VfioMarker)marker)
        {
            case VfioMarker.SetupState:
                return MarkerSize;
            case VfioMarker.DataState:
                return ParseData(data);
            case VfioMarker.ConfigState:
                return ParseConfig(data, out ended);
            case VfioMarker.InitDataSent:
                _observer.InitialDataSent();
                ended = true;
                return MarkerSize;
            case VfioMarker.EndOfState:
                ended = true;
                return MarkerSize;
            default:
                throw Fail(VfioError.InvalidMarker, $"0x{marker:x} is no marker of a VFIO section");
        }
    }

    private int ParseData(ReadOnlySpan<byte> data)
    {
        if (data.Length < MarkerSize + 8)
        {
            return 0;
        }

        _dataLeft = BinaryPrimitives.ReadUInt64BigEndian(data[MarkerSize..]);
        return _dataLeft <= long.MaxValue ? MarkerSize + 8
            : throw Fail(VfioError.InvalidMarker, $"a block of {_dataLeft:N0} bytes cannot be");
    }

    private int ParseConfig(ReadOnlySpan<byte> data, out bool ended)
    {
        int from = Math.Max(0, Math.Min(_searched, data.Length) - _configEnd.Length);
        int found = data[from..].IndexOf(_configEnd);
        ended = found >= 0;
        _searched = ended ? 0 : data.Length;
        int end = from + found;
        if (!ended)
        {
            return data.Length <= ConfigState.Limit ? 0
                : throw Fail(VfioError.TruncatedConfig, $"the config state does not end within {ConfigState.Limit:N0} bytes");
        }

        int length = end + MarkerSize;
        _observer.Config(data[..length]);
        return length;
    }

    private VfioException Fail(VfioError reason, string what)
        => new(reason, $"{_device}, byte {_offset:N0}: {what}.") { Section = _device, ByteOffset = _offset };
}
