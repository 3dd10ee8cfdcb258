namespace MigrationOps.Engine.Rehearsal;

/// <summary>An option of QEMU's command line.</summary>
/// <param name="Name">Its name without the dash; empty for a disk image that stands alone.</param>
/// <param name="Value">Its value; null for an option that takes none.</param>
internal sealed record QemuOption(string Name, string? Value = null);

/// <summary>QEMU's command line as a list of options.</summary>
internal static class QemuCommandLine
{
    // Every other option takes one value. Source: qemu-options.hx of QEMU 7.2 to 11.1.
    private static readonly HashSet<string> WithoutValue =
    [
        "S", "alt-grab", "ctrl-grab", "curses", "daemonize", "enable-fips", "enable-kvm", "full-screen", "h", "help", "mem-prealloc",
        "no-acpi", "no-fd-bootchk", "no-hpet", "no-quit", "no-reboot", "no-shutdown", "no-user-config", "nodefaults", "nographic",
        "nouserconfig", "old-param", "only-migratable", "portrait", "preconfig", "s", "sdl", "semihosting", "show-cursor", "singlestep",
        "snapshot", "usb", "version", "win2k-hack", "xen-attach", "xen-domid-restrict",
    ];

    /// <summary>Takes a command line apart. The program itself is not part of it.</summary>
    /// <exception cref="RehearsalException"><see cref="RehearsalError.InvalidCommandLine"/>: an option at the end lacks its value.</exception>
    internal static List<QemuOption> Parse(IReadOnlyList<string> arguments)
    {
        var options = new List<QemuOption>();
        for (int i = 0; i < arguments.Count; i++)
        {
            string argument = arguments[i];
            if (!argument.StartsWith('-') || argument == "-")
            {
                options.Add(new QemuOption("", argument));
                continue;
            }

            string name = argument.TrimStart('-');
            if (WithoutValue.Contains(name))
            {
                options.Add(new QemuOption(name));
            }
            else if (i + 1 < arguments.Count)
            {
                options.Add(new QemuOption(name, arguments[++i]));
            }
            else
            {
                throw new RehearsalException(RehearsalError.InvalidCommandLine,
                    $"The option {argument} at the end of the command line has no value.");
            }
        }

        return options;
    }

    /// <summary>The options as arguments of a program.</summary>
    internal static IEnumerable<string> ToArguments(IEnumerable<QemuOption> options)
    {
        foreach (var (name, value) in options)
        {
            yield return name.Length > 0 ? "-" + name : value!;
            if (name.Length > 0 && value is not null)
            {
                yield return value;
            }
        }
    }

    /// <summary>Takes the arguments of a line of a shell script or of <c>virsh domxml-to-native</c> apart: words, quotes, backslashes.</summary>
    internal static List<string> SplitWords(string line)
    {
        var words = new List<string>();
        var word = new System.Text.StringBuilder();
        char quote = '\0';
        bool any = false;
        for (int i = 0; i < line.Length; i++)
        {
            char c = line[i];
            if (quote == '\'' ? c != '\'' : c == '\\' && i + 1 < line.Length)
            {
                if (c == '\\' && quote != '\'')
                {
                    c = line[++i];
                    if (c == '\n')
                    {
                        continue;
                    }
                }

                word.Append(c);
                any = true;
            }
            else if (quote != '\0' && c == quote)
            {
                quote = '\0';
            }
            else if (quote == '\0' && c is '\'' or '"')
            {
                quote = c;
                any = true;
            }
            else if (quote == '\0' && char.IsWhiteSpace(c))
            {
                if (any)
                {
                    words.Add(word.ToString());
                }

                word.Clear();
                any = false;
            }
            else
            {
                word.Append(c);
                any = true;
            }
        }

        if (any)
        {
            words.Add(word.ToString());
        }

        return words;
    }
}
