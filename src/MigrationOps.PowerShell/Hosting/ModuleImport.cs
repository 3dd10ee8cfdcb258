using System.Management.Automation;
using System.Reflection;

namespace MigrationOps.PowerShell.Hosting;

/// <summary>
/// The end of an import, once the cmdlets are there. The module's script calls it: what is compiled here would be interpreted there,
/// anew in every session.
/// </summary>
public static class ModuleImport
{
    /// <summary>Passes the cmdlets on to the module, and watches over a PowerShell that has a shim.</summary>
    /// <param name="module">The script module that a user imports.</param>
    /// <param name="inner">The module of the cmdlets' assembly.</param>
    public static void Complete(PSModuleInfo module, PSModuleInfo inner)
    {
        ArgumentNullException.ThrowIfNull(inner);

        // PowerShell issue 20710: an assembly that was imported before exports nothing through a script module that is imported again. The
        // cmdlets are there all the same, in the inner module.
        var add = typeof(PSModuleInfo).GetMethod("AddExportedCmdlet", BindingFlags.Instance | BindingFlags.NonPublic)
            ?? throw new InvalidOperationException("This PowerShell has no PSModuleInfo.AddExportedCmdlet.");
        foreach (var cmdlet in inner.ExportedCmdlets.Values)
        {
            add.Invoke(module, [cmdlet]);
        }

        // Whoever ends the shim of a PowerShell that is a .NET tool means what runs in it.
        ToolShim.Watch();
    }
}
