using System.Diagnostics.CodeAnalysis;
using System.Text;
using System.Xml;
using System.Xml.Linq;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>The head of a save image of libvirt (virsh save): a fixed header, the domain's XML, a cookie, then the stream.</summary>
/// <param name="Version">Version of the header.</param>
/// <param name="DataLength">Bytes of XML and cookie.</param>
/// <param name="WasRunning">True if the domain ran when it was saved.</param>
/// <param name="Compression">How the stream is stored: raw, gzip, bzip2, xz, lzop, zstd or sparse.</param>
/// <param name="IsPartial">True if libvirt had not finished the image.</param>
internal sealed record LibvirtImage(int Version, long DataLength, bool WasRunning, string Compression, bool IsPartial)
{
    internal const int HeaderLength = 92;

    /// <summary>How errors call the part before the stream; bytes in it count from the start of the file.</summary>
    internal const string SectionName = "libvirt header";

    private const int MaxDataLength = 64 << 20;

    /// <summary>The longest XML that is kept: a domain has some KiB.</summary>
    internal const int MaxXmlLength = 4 << 20;

    private static readonly string[] Compressions = ["raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse"];

    /// <summary>The domain's XML as libvirt wrote it; empty if it is longer than is kept.</summary>
    internal string Xml { get; private init; } = "";

    /// <summary>The domain's name; empty if the XML does not say.</summary>
    internal string DomainName { get; private init; } = "";

    /// <summary>The domain's UUID, if the XML has it.</summary>
    internal Guid? DomainUuid { get; private init; }

    /// <summary>The image with what its XML says.</summary>
    /// <param name="data">The bytes behind the header: XML, padded with NUL, and the cookie.</param>
    internal LibvirtImage WithXml(ReadOnlySpan<byte> data)
    {
        int end = data.IndexOf((byte)0);
        string xml = Encoding.UTF8.GetString(end < 0 ? data : data[..end]);
        var (name, uuid) = ReadNames(xml);
        return this with { Xml = xml, DomainName = name, DomainUuid = uuid };
    }

    /// <summary>Where the stream starts in the image.</summary>
    internal long StreamOffset => HeaderLength + DataLength;

    // What libvirt wrote is XML; an edited text may be invalid XML, and the stream is complete all the same.
    private static (string Name, Guid? Uuid) ReadNames(string xml)
    {
        try
        {
            using var reader = XmlReader.Create(new StringReader(xml), new XmlReaderSettings { DtdProcessing = DtdProcessing.Prohibit });
            var domain = XDocument.Load(reader).Root;
            domain = domain?.Name.LocalName == "domain" ? domain : domain?.Descendants("domain").FirstOrDefault();
            return ((string?)domain?.Element("name") ?? "", Guid.TryParse((string?)domain?.Element("uuid"), out var uuid) ? uuid : null);
        }
        catch (XmlException)
        {
            return ("", null);
        }
    }

    internal static bool IsMagic(ReadOnlySpan<byte> start)
        => start.StartsWith("LibvirtQemudSave"u8) || start.StartsWith("LibvirtQemudPart"u8);

    /// <summary>Reads the header. Its integers have the byte order of the host that wrote it, which shows in the version.</summary>
    /// <param name="reader">Has the file's name as its source.</param>
    /// <param name="image">The image.</param>
    /// <exception cref="StreamException">It is of a version or format that is not known.</exception>
    internal static bool TryRead(ref WireReader reader, [NotNullWhen(true)] out LibvirtImage? image)
    {
        image = null;
        var all = reader;
        if (!all.TryReadBytes(16, out var magic) || !all.TryReadBytes(HeaderLength - 16, out var words))
        {
            return false;
        }

        var r = WireReader.LittleEndian(words);
        if (r.TryReadUInt32(out uint version) && version is 0 or > ushort.MaxValue)
        {
            r = WireReader.BigEndian(words);
            r.TryReadUInt32(out version);
        }

        r.TryReadUInt32(out uint length);
        r.TryReadUInt32(out uint running);
        r.TryReadUInt32(out uint format);
        string name = reader.Source ?? "";
        if (version is not (1 or 2 or 3))
        {
            throw Invalid(StreamError.UnsupportedVersion, 16, $"is a libvirt save image of version {version}");
        }

        if (format >= Compressions.Length)
        {
            throw Invalid(StreamError.NotSupported, 28, $"is a libvirt save image in an unknown format ({format})");
        }

        if (length > MaxDataLength)
        {
            throw Invalid(StreamError.LimitExceeded, 20, $"is a libvirt save image with {length:N0} bytes of XML");
        }

        image = new LibvirtImage((int)version, length, running != 0, Compressions[format], magic.EndsWith("Part"u8));
        reader = all;
        return true;

        StreamException Invalid(StreamError reason, long offset, string what)
            => new(reason, $"'{name}' {what}, at byte {offset}.") { ByteOffset = offset, Target = name, Section = SectionName };
    }

    /// <summary>What an image is that ends before its stream.</summary>
    internal StreamException Truncated(long length) => new(StreamError.Truncated,
        $"The libvirt save image ends at byte {length:N0} of the file, inside the domain's XML, which reaches to byte {StreamOffset:N0}: nothing of the stream is there.",
        action: "Look for another copy of the image, or save the VM again. Check that the disk was not full.")
    {
        ByteOffset = length,
        Section = SectionName,
    };

    public override string ToString() => new StringBuilder("libvirt save image, ").Append(Compression).ToString();
}
