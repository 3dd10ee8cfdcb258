using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.Vfio;

/// <summary>Why the state of a VFIO device could not be received, stored, sent or loaded.</summary>
public enum VfioError
{
    /// <summary>A packet for a device that the main stream does not have.</summary>
    UnknownDevice,

    /// <summary>The migration does not carry the expected device, or carries no VFIO device.</summary>
    DeviceNotInMigration,

    /// <summary>No place was given to keep the received state.</summary>
    NoDestination,

    /// <summary>More devices than the limit.</summary>
    TooManyDevices,

    /// <summary>More packets out of order than the memory budget can keep track of.</summary>
    TooManyOutOfOrder,

    /// <summary>A device whose state arrived both in the main stream and over the channels.</summary>
    MixedTransfer,

    /// <summary>The spill file cannot be written or read.</summary>
    SpillFailed,

    /// <summary>No device of this name on this host.</summary>
    DeviceNotFound,

    /// <summary>The kernel does not open the device, for a reason not listed here.</summary>
    DeviceNotOpened,

    /// <summary>A device of the host that is bound to another driver, or to none.</summary>
    NotBound,

    /// <summary>A VFIO device without a device node.</summary>
    NoInterface,

    /// <summary>A character device on a host without <c>/dev/iommu</c>.</summary>
    NoIommufd,

    /// <summary>A container that knows neither type1 nor no-IOMMU.</summary>
    IommuNotSupported,

    /// <summary>A node that this user may not open.</summary>
    AccessDenied,

    /// <summary>Another process holds the device or its group.</summary>
    DeviceBusy,

    /// <summary>A group with a device that a driver of the host uses.</summary>
    GroupNotViable,

    /// <summary>A group of several devices where one is to be named.</summary>
    SeveralDevices,

    /// <summary>A device in RESUMING whose load was not completed: its state is incomplete.</summary>
    LoadInterrupted,

    /// <summary>The device or its driver cannot migrate.</summary>
    NotMigratable,

    /// <summary>A state that the device does not have.</summary>
    StateNotSupported,

    /// <summary>A state that was saved from a device of another kind.</summary>
    WrongDevice,

    /// <summary>The kernel refused a transition; the device is in the state that it reports.</summary>
    TransitionFailed,

    /// <summary>The device is in the ERROR state.</summary>
    DeviceInError,

    /// <summary>The device's data could not be read or written.</summary>
    DataTransferFailed,
}

/// <summary>A failure with the state of a VFIO device.</summary>
public sealed class VfioException : MigrationOpsException
{
    /// <summary>Creates the failure.</summary>
    /// <param name="reason">Why it failed.</param>
    /// <param name="message">What happened, with device, channel, index and byte offset.</param>
    /// <param name="innerException">The cause, if any.</param>
    /// <param name="action">What to do next, where the general advice for the reason is not enough.</param>
    public VfioException(VfioError reason, string message, Exception? innerException = null, string? action = null)
        : base("Vfio" + reason, KindOf(reason), message, action ?? ActionOf(reason), innerException)
        => Reason = reason;

    /// <summary>Why it failed.</summary>
    public VfioError Reason { get; }

    /// <summary>A failure with a packet.</summary>
    internal static VfioException At(VfioError reason, in PacketPlace place, string what, uint? index = null)
        => new(reason, $"{place.Describe(index)}: {what}.")
        {
            Section = place.Device,
            Peer = place.IsUnknown ? null : place.Channel,
            ByteOffset = place.IsUnknown ? null : place.Offset,
        };

    private static FailureKind KindOf(VfioError reason) => reason switch
    {
        VfioError.NotMigratable or VfioError.StateNotSupported => FailureKind.NotSupported,
        VfioError.TooManyDevices or VfioError.TooManyOutOfOrder => FailureKind.LimitExceeded,
        VfioError.SpillFailed or VfioError.DataTransferFailed => FailureKind.Storage,
        VfioError.DeviceNotFound or VfioError.NotBound or VfioError.NoInterface or VfioError.DeviceNotInMigration => FailureKind.NotFound,
        VfioError.NoIommufd or VfioError.IommuNotSupported => FailureKind.NotSupported,
        VfioError.AccessDenied => FailureKind.Permission,
        VfioError.SeveralDevices or VfioError.NoDestination => FailureKind.InvalidArgument,
        VfioError.TransitionFailed or VfioError.WrongDevice or VfioError.DeviceNotOpened => FailureKind.Refused,
        VfioError.DeviceInError or VfioError.LoadInterrupted or VfioError.DeviceBusy or VfioError.GroupNotViable => FailureKind.InvalidState,
        _ => FailureKind.Protocol,
    };

    private static string ActionOf(VfioError reason) => reason switch
    {
        VfioError.DeviceNotInMigration =>
            "The source was not told that its state was taken: resume its guest there with cont if it is stopped. Give the name of a section that the migration has, or keep all of it in an archive.",
        VfioError.NoDestination => "Give a folder, an archive or a device to load.",
        VfioError.TooManyDevices => "Raise the limit if the source really has so many devices.",
        VfioError.TooManyOutOfOrder => "Raise the memory budget.",
        VfioError.SpillFailed => "Free space in the destination's directory, or raise the memory budget.",
        VfioError.DeviceNotFound => "Check the name among the VFIO devices of this host.",
        VfioError.DeviceNotOpened => "Look at the kernel log.",
        VfioError.NotBound => "Bind the device to its vfio driver (driverctl set-override, or driver_override in sysfs), with a driver that can migrate it.",
        VfioError.NoInterface => "Load the modules vfio and vfio_iommu_type1. In a container, hand /dev/vfio/vfio and the node of the device's group in.",
        VfioError.NoIommufd => "Load the module iommufd. A kernel without it (CONFIG_IOMMUFD) has the device's group instead: /dev/vfio/N.",
        VfioError.IommuNotSupported => "Load the module vfio_iommu_type1.",
        VfioError.AccessDenied => "Run as root, or give this user the node: chown, or a udev rule. A group without an IOMMU needs CAP_SYS_RAWIO besides.",
        VfioError.DeviceBusy => "Let the virtual machine or process that holds it end, or migrate it from there: a device has one user at a time.",
        VfioError.GroupNotViable => "Bind every device of the group to a vfio driver, or to none.",
        VfioError.SeveralDevices => "Name one device by its PCI address or UUID.",
        VfioError.LoadInterrupted => "Load a whole state, or reset the device.",
        VfioError.NotMigratable => "Use a vfio variant driver that supports migration for this device.",
        VfioError.StateNotSupported => "The device lacks the feature for this state; use the states without it.",
        VfioError.WrongDevice => "Load the state into a device of the same vendor, model and revision. This one was not changed, or has been reset.",
        VfioError.TransitionFailed => "Look at the kernel log. The data descriptor was dropped; save or restore again, or let the device run on.",
        VfioError.DeviceInError => "Its state is lost. Reset the device, or load the last good state, which resets it.",
        VfioError.DataTransferFailed => "Look at the kernel log. The device's state was not moved completely.",
        VfioError.UnknownDevice => "Do not trust this migration: the source sends state of a device that it did not announce.",
        _ => "The source broke the protocol of VFIO device state. Do not trust this migration: repeat it, and report it with an archive of it.",
    };
}
