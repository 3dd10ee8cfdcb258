namespace MigrationOps.Engine.Vfio;

/// <summary>The 64-bit words that structure a VFIO device's section.</summary>
public enum VfioMarker : ulong
{
    /// <summary>End of the section's body, or of a config state.</summary>
    EndOfState = 0xffffffffef100001,

    /// <summary>The config state follows, then <see cref="EndOfState"/>.</summary>
    ConfigState = 0xffffffffef100002,

    /// <summary>The section of the device's setup.</summary>
    SetupState = 0xffffffffef100003,

    /// <summary>A 64-bit size and so much of the device's data follow.</summary>
    DataState = 0xffffffffef100004,

    /// <summary>The device's initial data has been sent; takes the place of <see cref="EndOfState"/>.</summary>
    InitDataSent = 0xffffffffef100005,
}
