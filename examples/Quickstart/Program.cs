using System.Globalization;
using System.Reflection;
using MigrationOps.Quickstart;
using MigrationOps.Tools;

// The main job on one machine: the state of a back-end is saved, verified, loaded into a second back-end and checked;
// then once more from one to the other without a file. Through the module in PowerShell 7.6, which is restored as a .NET tool
// if it is not installed; through the engine only where that cannot be done.
// The size of the state in MiB, if 300 is too much for this machine.
long size = (args is [var given, ..] ? long.Parse(given, CultureInfo.InvariantCulture) : 300) << 20;

var folder = Directory.CreateTempSubdirectory("migrationops-quickstart-");
try
{
    if (PowerShellCommand.Find(out string reason) is { } pwsh)
    {
        Console.WriteLine($"Running through the PowerShell module ({pwsh}).");
        string module = typeof(ModuleTour).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>()
            .Single(attribute => attribute.Key == "ModulePath").Value!;
        return ModuleTour.Run(pwsh, module, folder.FullName, size);
    }

    Console.WriteLine($"Running through the engine. {reason}");
    EngineTour.Run(folder.FullName, size);
    return 0;
}
catch (MigrationOps.MigrationOpsException e)
{
    Console.Error.WriteLine($"{e.ErrorId}: {e.Message}\n  {e.RecommendedAction}");
    return 1;
}
finally
{
    folder.Delete(recursive: true);
}
