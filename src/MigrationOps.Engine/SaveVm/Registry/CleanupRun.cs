using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// Calls every cleanup exactly once, whatever happened before: one that throws or hangs keeps no other from its turn.
/// </summary>
internal static class CleanupRun
{
    /// <summary>Runs them.</summary>
    /// <param name="contexts">The devices, in the order of the migration.</param>
    /// <param name="handler"><see cref="SaveVmHandler.SaveCleanup"/> or <see cref="SaveVmHandler.LoadCleanup"/>.</param>
    /// <param name="scope">Its timeout is that of each cleanup; after a cancellation there is less patience.</param>
    /// <returns>What went wrong.</returns>
    internal static List<string> All(IReadOnlyList<EntryContext> contexts, SaveVmHandler handler, TransferScope scope)
    {
        var warnings = new List<string>();
        var timeout = scope.CancellationToken.IsCancellationRequested ? HandlerWatch.CancelGrace : scope.Timeout;
        int next = 0;
        while (next < contexts.Count)
        {
            var (failure, _) = HandlerWatch.Run(handler.ToString(), timeout, watch =>
            {
                var caller = new HandlerCaller(watch, () => 0, () => null, scope);
                while (next < contexts.Count)
                {
                    var context = contexts[next++];
                    var handlers = context.Entry.Handlers;
                    if (context.Entry.Has(handler)
                        && caller.Cleanup(context.Entry, handler, () => Clean(handlers, handler, context)) is { } warning)
                    {
                        warnings.Add(warning);
                    }
                }
            }, CancellationToken.None);
            if (failure is not null)
            {
                warnings.Add(failure.Message);
            }
        }

        return warnings;
    }

    private static void Clean(ISaveVmHandlers handlers, SaveVmHandler handler, SaveVmContext context)
    {
        if (handler == SaveVmHandler.SaveCleanup)
        {
            handlers.SaveCleanup(context);
        }
        else
        {
            handlers.LoadCleanup(context);
        }
    }
}
