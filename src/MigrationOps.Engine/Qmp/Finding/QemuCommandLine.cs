using System.Globalization;

namespace MigrationOps.Engine.Qmp;

/// <summary>A monitor that a command line asks for.</summary>
/// <param name="Path">The path of a UNIX socket as it was given; null for other kinds.</param>
/// <param name="Descriptor">The number of a socket that QEMU was given open; null for other kinds.</param>
/// <param name="Address">The TCP address as host:port; null for other kinds.</param>
/// <param name="Kind">What it is, for other kinds: stdio, pty ...</param>
/// <param name="IsServer">True if QEMU listens; false if it connects to a server.</param>
internal sealed record MonitorArgument(string? Path, int? Descriptor, string? Address, string Kind, bool IsServer);

/// <summary>
/// What can be read from a QEMU's command line. It never does I/O and never fails: an option that is not understood is passed over.
/// </summary>
internal sealed class QemuCommandLine
{
    private QemuCommandLine()
    {
    }

    internal string? Name { get; private set; }

    internal string? Uuid { get; private set; }

    internal string? Machine { get; private set; }

    internal long? MemoryBytes { get; private set; }

    internal bool Incoming { get; private set; }

    internal List<MonitorArgument> Monitors { get; } = [];

    /// <summary>Reads a command line, the program's own name first.</summary>
    internal static QemuCommandLine Parse(IReadOnlyList<string> arguments)
    {
        var line = new QemuCommandLine();
        var devices = new Dictionary<string, Dictionary<string, string>>(StringComparer.Ordinal);
        var named = new List<string>();
        for (int i = 1; i + 1 < arguments.Count; i++)
        {
            string value = arguments[i + 1];
            switch (arguments[i].StartsWith("--", StringComparison.Ordinal) ? arguments[i][1..] : arguments[i])
            {
                case "-name":
                    line.Name = Options(value, "guest").GetValueOrDefault("guest");
                    break;
                case "-uuid":
                    line.Uuid = value;
                    break;
                case "-machine" or "-M":
                    line.Machine = Options(value, "type").GetValueOrDefault("type") ?? line.Machine;
                    break;
                case "-m":
                    line.MemoryBytes = Size(Options(value, "size").GetValueOrDefault("size")) ?? line.MemoryBytes;
                    break;
                case "-incoming":
                    line.Incoming = true;
                    break;
                case "-chardev":
                    var device = Options(value, "backend");
                    devices[device.GetValueOrDefault("id", "")] = device;
                    break;
                case "-mon" when Options(value, "chardev") is var monitor && monitor.GetValueOrDefault("mode") == "control":
                    named.Add(monitor.GetValueOrDefault("chardev", ""));
                    break;
                case "-qmp" or "-qmp-pretty" when value.StartsWith("chardev:", StringComparison.Ordinal):
                    named.Add(value["chardev:".Length..]);
                    break;
                case "-qmp" or "-qmp-pretty":
                    line.Monitors.Add(Legacy(value));
                    break;
                default:
                    continue;
            }

            i++;
        }

        line.Monitors.AddRange(named.Where(devices.ContainsKey).Select(id => FromDevice(devices[id])));
        return line;
    }

    // unix:PATH,server=on,wait=off and tcp:HOST:PORT,...; a path may have commas, doubled.
    private static MonitorArgument Legacy(string value)
    {
        int colon = value.IndexOf(':', StringComparison.Ordinal);
        string kind = colon < 0 ? value : value[..colon];
        var options = Options(colon < 0 ? "" : value[(colon + 1)..], "address");
        string address = options.GetValueOrDefault("address", "");
        return kind switch
        {
            "unix" => new MonitorArgument(address, null, null, kind, IsServer(options)),
            "tcp" => new MonitorArgument(null, null, address.StartsWith(':') ? "127.0.0.1" + address : address, kind, IsServer(options)),
            _ => new MonitorArgument(null, null, null, kind, false),
        };
    }

    private static MonitorArgument FromDevice(Dictionary<string, string> device)
    {
        string kind = device.GetValueOrDefault("backend", "");
        if (kind != "socket")
        {
            return new MonitorArgument(null, null, null, kind, false);
        }

        int? descriptor = int.TryParse(device.GetValueOrDefault("fd"), NumberStyles.None, CultureInfo.InvariantCulture, out int fd) ? fd : null;
        string? address = device.TryGetValue("port", out string? port) ? $"{device.GetValueOrDefault("host", "127.0.0.1")}:{port}" : null;
        return new MonitorArgument(device.GetValueOrDefault("path"), descriptor, address, kind, IsServer(device));
    }

    private static bool IsServer(Dictionary<string, string> options) => options.GetValueOrDefault("server") is "on" or "yes" or "true";

    // QEMU's option lists: key=value joined by commas, a comma inside doubled; the first may be a value alone, others a flag.
    private static Dictionary<string, string> Options(string text, string first)
    {
        var options = new Dictionary<string, string>(StringComparer.Ordinal);
        var parts = text.Replace(",,", "\0", StringComparison.Ordinal).Split(',').Select(part => part.Replace('\0', ','));
        bool isFirst = true;
        foreach (string part in parts)
        {
            int equals = part.IndexOf('=', StringComparison.Ordinal);
            if (equals < 0 || (isFirst && part.StartsWith('/')))
            {
                options[isFirst ? first : part] = isFirst ? part : "on";
            }
            else
            {
                options[part[..equals]] = part[(equals + 1)..];
            }

            isFirst = false;
        }

        return options;
    }

    // A number alone is mebibytes.
    private static long? Size(string? text)
    {
        if (string.IsNullOrEmpty(text))
        {
            return null;
        }

        int unit = "kmgt".IndexOf(char.ToLowerInvariant(text[^1]), StringComparison.Ordinal);
        string number = unit < 0 ? text.TrimEnd('b', 'B') : text[..^1];
        int shift = unit < 0 ? text[^1] is 'b' or 'B' ? 0 : 20 : 10 * (unit + 1);
        return double.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double value) && value * Math.Pow(2, shift) < long.MaxValue
            ? (long)(value * Math.Pow(2, shift)) : null;
    }
}
