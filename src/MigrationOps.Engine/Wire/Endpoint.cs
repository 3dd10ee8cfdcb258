using System.Globalization;
using System.Net;

namespace MigrationOps.Engine.Wire;

/// <summary>
/// One end of a transfer, in the syntax of QEMU's migration URIs: <c>unix:PATH</c>, <c>tcp:HOST:PORT</c>,
/// <c>file:PATH[,offset=N]</c>, <c>fd:N</c>.
/// </summary>
public abstract record Endpoint
{
    private const string OffsetOption = ",offset=";

    private Endpoint()
    {
    }

    /// <summary>A UNIX stream socket; a leading <c>@</c> is the abstract namespace.</summary>
    /// <param name="Path">Path of the socket file.</param>
    public sealed record Unix(string Path) : Endpoint
    {
        /// <inheritdoc/>
        public override string ToString() => "unix:" + Path;
    }

    /// <summary>A TCP address.</summary>
    /// <param name="Host">Host name or address without brackets; empty means every address when listening.</param>
    /// <param name="Port">Port, 0 for any free one when listening.</param>
    public sealed record Tcp(string Host, int Port) : Endpoint
    {
        /// <inheritdoc/>
        public override string ToString() => Host.Contains(':') ? $"tcp:[{Host}]:{Port}" : $"tcp:{Host}:{Port}";

        /// <summary>True if the host can be reached from this machine only.</summary>
        public bool IsLoopback => string.Equals(Host, "localhost", StringComparison.OrdinalIgnoreCase)
            || (IPAddress.TryParse(Host, out var address) && IPAddress.IsLoopback(address));
    }

    /// <summary>A file, from an offset on.</summary>
    /// <param name="Path">Path of the file.</param>
    /// <param name="Offset">Bytes before the data.</param>
    public sealed record File(string Path, long Offset = 0) : Endpoint
    {
        /// <inheritdoc/>
        // A path that looks as if it had an offset gets one, so that the text means this file and no other.
        public override string ToString()
            => Offset == 0 && !Path.Contains(OffsetOption, StringComparison.Ordinal)
                ? "file:" + Path
                : string.Create(CultureInfo.InvariantCulture, $"file:{Path}{OffsetOption}{Offset}");
    }

    /// <summary>A descriptor that this process already has open.</summary>
    /// <param name="Number">Its number. It is duplicated on use; the caller keeps its own.</param>
    public sealed record Fd(int Number) : Endpoint
    {
        /// <inheritdoc/>
        public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"fd:{Number}");
    }

    /// <summary>True if bytes leave or enter the machine over a network that others may share.</summary>
    public bool IsNetwork => this is Tcp { IsLoopback: false };

    /// <summary>Parses an endpoint URI.</summary>
    /// <param name="uri">The text.</param>
    /// <exception cref="WireException"><see cref="WireError.InvalidEndpoint"/>, or
    /// <see cref="WireError.UnsupportedEndpoint"/> for QEMU's exec:, rdma: and vsock:.</exception>
    public static Endpoint Parse(string uri)
    {
        ArgumentNullException.ThrowIfNull(uri);
        int colon = uri.IndexOf(':', StringComparison.Ordinal);
        string scheme = colon < 0 ? "" : uri[..colon];
        string rest = uri[(colon + 1)..];
        return scheme switch
        {
            "unix" => new Unix(NotEmpty(uri, rest, "a path")),
            "tcp" => ParseTcp(uri, rest),
            "file" => ParseFile(uri, rest),
            "fd" => int.TryParse(rest, NumberStyles.None, CultureInfo.InvariantCulture, out int fd)
                ? new Fd(fd)
                : throw Invalid(uri, "fd: takes the number of an open descriptor"),
            "exec" or "rdma" or "vsock" => throw new WireException(WireError.UnsupportedEndpoint,
                $"The endpoint '{uri}' uses '{scheme}:', which QEMU has and MigrationOps does not.",
                action: "Use unix:, tcp:, file: or fd:."),
            _ => throw Invalid(uri, "it starts with none of unix:, tcp:, file: and fd:"),
        };
    }

    private static Tcp ParseTcp(string uri, string rest)
    {
        // QEMU allows options such as ",to=" and ",ipv4" behind the port; they have no meaning for one address here.
        if (rest.Contains(',', StringComparison.Ordinal))
        {
            throw Invalid(uri, "options behind the port are not supported");
        }

        string host;
        string port;
        if (rest.StartsWith('['))
        {
            int close = rest.IndexOf("]:", StringComparison.Ordinal);
            if (close < 0 || !IPAddress.TryParse(rest[1..close], out _))
            {
                throw Invalid(uri, "an IPv6 address stands in brackets, followed by a colon and the port");
            }

            host = rest[1..close];
            port = rest[(close + 2)..];
        }
        else
        {
            int colon = rest.IndexOf(':', StringComparison.Ordinal);
            if (colon < 0 || colon != rest.LastIndexOf(':'))
            {
                throw Invalid(uri, colon < 0 ? "the port is missing" : "an IPv6 address stands in brackets");
            }

            host = rest[..colon];
            port = rest[(colon + 1)..];
        }

        return ushort.TryParse(port, NumberStyles.None, CultureInfo.InvariantCulture, out ushort number)
            ? new Tcp(host, number)
            : throw Invalid(uri, $"'{port}' is not a port from 0 to 65535");
    }

    private static File ParseFile(string uri, string rest)
    {
        int option = rest.LastIndexOf(OffsetOption, StringComparison.Ordinal);
        if (option < 0)
        {
            return new File(NotEmpty(uri, rest, "a path"));
        }

        string text = rest[(option + OffsetOption.Length)..];
        return TryParseSize(text, out long offset)
            ? new File(NotEmpty(uri, rest[..option], "a path"), offset)
            : throw Invalid(uri, $"'{text}' is not an offset in bytes");
    }

    /// <summary>Reads a size as QEMU does: decimal or 0x hexadecimal bytes, or with a suffix B, K, M, G or T.</summary>
    private static bool TryParseSize(string text, out long size)
    {
        if (text.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
        {
            return long.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out size)
                && size >= 0;
        }

        int shift = text.Length == 0 ? -1 : "BKMGT".IndexOf(char.ToUpperInvariant(text[^1]), StringComparison.Ordinal);
        var digits = shift < 0 ? text : text[..^1];
        if (!long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out size)
            || (shift > 0 && size > long.MaxValue >> (10 * shift)))
        {
            return false;
        }

        size <<= 10 * Math.Max(shift, 0);
        return true;
    }

    private static string NotEmpty(string uri, string value, string what)
        => value.Length > 0 ? value : throw Invalid(uri, $"{what} is missing");

    private static WireException Invalid(string uri, string why)
        => new(WireError.InvalidEndpoint, $"'{uri}' is not an endpoint: {why}.") { Target = uri };
}
