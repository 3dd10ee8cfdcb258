using MigrationOps.Benchmarks;

if (args is [MonitorBenchmark.PeersArgument, var folder, var count])
{
    return await MonitorBenchmark.ServePeersAsync(folder, int.Parse(count, System.Globalization.CultureInfo.InvariantCulture));
}

// dotnet run -c Release --project tests/MigrationOps.Benchmarks              every whole-transfer benchmark
// dotnet run -c Release --project tests/MigrationOps.Benchmarks -- vhost     those whose name begins so
var chosen = TransferBenchmark.All.Where(b => args.Length == 0 || args.Any(a => b.Name.StartsWith(a, StringComparison.Ordinal))).ToArray();
if (chosen.Length == 0)
{
    Console.Error.WriteLine($"There is no such benchmark. There are: {string.Join(", ", TransferBenchmark.All.Select(b => b.Name))}.");
    return 2;
}

foreach (var benchmark in chosen)
{
    Console.WriteLine($"{benchmark.Name}: {benchmark.Description}");
    benchmark.Run(new BenchmarkReport());
    Console.WriteLine();
}

return 0;
