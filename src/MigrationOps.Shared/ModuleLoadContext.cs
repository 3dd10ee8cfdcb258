using System.Reflection;
using System.Runtime.InteropServices;
using System.Runtime.Loader;

namespace MigrationOps;

/// <summary>
/// Loads the cmdlets, the engine and their packages apart from PowerShell's own assemblies, so that no other module's
/// versions meet ours. This assembly itself is shared: its types are the ones that a user may name.
/// </summary>
public sealed class ModuleLoadContext : AssemblyLoadContext
{
    private const string CmdletAssembly = "MigrationOps.PowerShell";

    private static readonly Lock Gate = new();
    private static Assembly? _cmdlets;

    // What a release has compiled ahead of time for this kind of processor, in a folder of its own: on another one such a file does not
    // load at all.
    private readonly string _compiled;
    private readonly string _directory;

    private ModuleLoadContext(string directory)
        : base("MigrationOps")
    {
        _directory = directory;
        _compiled = Path.Combine(directory, RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant());
    }

    /// <summary>The assembly with the cmdlets, loaded once in a process.</summary>
    public static Assembly LoadCmdlets()
    {
        lock (Gate)
        {
            string directory = Path.Combine(Path.GetDirectoryName(typeof(ModuleLoadContext).Assembly.Location)!, "bin");
            return _cmdlets ??= new ModuleLoadContext(directory).LoadFromAssemblyName(new AssemblyName(CmdletAssembly));
        }
    }

    /// <inheritdoc/>
    protected override Assembly? Load(AssemblyName assemblyName)
    {
        ArgumentNullException.ThrowIfNull(assemblyName);
        string file = assemblyName.Name + ".dll";
        return Array.Find([Path.Combine(_compiled, file), Path.Combine(_directory, file)], File.Exists) is { } path ? LoadFromAssemblyPath(path) : null;
    }
}
