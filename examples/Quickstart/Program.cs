using System.Reflection;
using MigrationOps.Quickstart;

// The main job on one machine: the state of a back-end is saved, verified, loaded into a second back-end and checked;
// then once more from one to the other without a file. Through the module where PowerShell 7.6 is there, else through
// the engine.
const long StateSize = 300L << 20;

var folder = Directory.CreateTempSubdirectory("migrationops-quickstart-");
try
{
    if (PowerShellHost.Find(out string reason) is { } pwsh)
    {
        Console.WriteLine($"Running through the PowerShell module ({pwsh.Description}).");
        string module = typeof(PowerShellHost).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>()
            .Single(attribute => attribute.Key == "ModulePath").Value!;
        return pwsh.Run(Path.Combine(AppContext.BaseDirectory, "Quickstart.ps1"), module, folder.FullName, StateSize);
    }

    Console.WriteLine($"Running through the engine: {reason}.");
    EngineTour.Run(folder.FullName, StateSize);
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
