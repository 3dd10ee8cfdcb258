using System.Reflection;

namespace MigrationOps;

/// <summary>The handlers of <see cref="ISaveVmHandlers"/>, as a set: which of them a device offers.</summary>
[Flags]
public enum SaveVmHandler
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary><see cref="ISaveVmHandlers.SaveState"/>.</summary>
    SaveState = 1 << 0,

    /// <summary><see cref="ISaveVmHandlers.SavePrepare"/>.</summary>
    SavePrepare = 1 << 1,

    /// <summary><see cref="ISaveVmHandlers.SaveSetup"/>.</summary>
    SaveSetup = 1 << 2,

    /// <summary><see cref="ISaveVmHandlers.SaveLiveIterate"/>.</summary>
    SaveLiveIterate = 1 << 3,

    /// <summary><see cref="ISaveVmHandlers.StatePendingEstimate"/>.</summary>
    StatePendingEstimate = 1 << 4,

    /// <summary><see cref="ISaveVmHandlers.StatePendingExact"/>.</summary>
    StatePendingExact = 1 << 5,

    /// <summary><see cref="ISaveVmHandlers.IsActive"/>.</summary>
    IsActive = 1 << 6,

    /// <summary><see cref="ISaveVmHandlers.IsActiveIterate"/>.</summary>
    IsActiveIterate = 1 << 7,

    /// <summary><see cref="ISaveVmHandlers.HasPostcopy"/>.</summary>
    HasPostcopy = 1 << 8,

    /// <summary><see cref="ISaveVmHandlers.SaveLiveCompletePrecopy"/>.</summary>
    SaveLiveCompletePrecopy = 1 << 9,

    /// <summary><see cref="ISaveVmHandlers.SaveLiveCompletePrecopyThread"/>.</summary>
    SaveLiveCompletePrecopyThread = 1 << 10,

    /// <summary><see cref="ISaveVmHandlers.SaveLiveCompletePostcopy"/>.</summary>
    SaveLiveCompletePostcopy = 1 << 11,

    /// <summary><see cref="ISaveVmHandlers.SaveCleanup"/>.</summary>
    SaveCleanup = 1 << 12,

    /// <summary><see cref="ISaveVmHandlers.LoadSetup"/>.</summary>
    LoadSetup = 1 << 13,

    /// <summary><see cref="ISaveVmHandlers.LoadCleanup"/>.</summary>
    LoadCleanup = 1 << 14,

    /// <summary><see cref="ISaveVmHandlers.LoadState"/>.</summary>
    LoadState = 1 << 15,

    /// <summary><see cref="ISaveVmHandlers.LoadStateBuffer"/>.</summary>
    LoadStateBuffer = 1 << 16,

    /// <summary><see cref="ISaveVmHandlers.ResumePrepare"/>.</summary>
    ResumePrepare = 1 << 17,

    /// <summary><see cref="ISaveVmHandlers.SwitchoverAckNeeded"/>.</summary>
    SwitchoverAckNeeded = 1 << 18,

    /// <summary><see cref="ISaveVmHandlers.SwitchoverStart"/>.</summary>
    SwitchoverStart = 1 << 19,
}

/// <summary>Finds out which handlers a class has written itself.</summary>
internal static class SaveVmHandlerSet
{
    /// <summary>The handlers whose body is the type's own and not the interface's refusal.</summary>
    internal static SaveVmHandler ImplementedBy(Type type)
    {
        var map = type.GetInterfaceMap(typeof(ISaveVmHandlers));
        var offered = SaveVmHandler.None;
        for (int i = 0; i < map.InterfaceMethods.Length; i++)
        {
            if (map.TargetMethods[i] is MethodInfo target && target.DeclaringType != typeof(ISaveVmHandlers)
                && Enum.TryParse(map.InterfaceMethods[i].Name, out SaveVmHandler handler))
            {
                offered |= handler;
            }
        }

        return offered;
    }
}
