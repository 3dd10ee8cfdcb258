using System.Runtime.InteropServices;

namespace MigrationOps.Engine.Native;

/// <summary>lchown(2), and getgrnam_r(3) for the number of a group.</summary>
internal static partial class Ownership
{
    private const int LargestEntry = 1024 * 1024;
    private const int RangeError = 34;

    [StructLayout(LayoutKind.Sequential)]
    private unsafe struct GroupEntry
    {
        public byte* Name;
        public byte* Password;
        public uint Id;
        public byte** Members;
    }

    [LibraryImport("libc", EntryPoint = "lchown", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int ChangeOwner(string path, uint owner, uint group);

    [LibraryImport("libc", EntryPoint = "getgrnam_r", StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial int GetGroupByName(string name, GroupEntry* entry, byte* buffer, nuint size, GroupEntry** result);

    /// <summary>Gives a file to a user and a group; null leaves one as it is.</summary>
    internal static void Change(string path, uint? owner, uint? group)
        => NativeError.Check(ChangeOwner(path, owner ?? uint.MaxValue, group ?? uint.MaxValue), "chown", path);

    /// <summary>The number of a group, by its name.</summary>
    /// <returns>Null if there is none.</returns>
    internal static unsafe uint? FindGroup(string name)
    {
        GroupEntry entry;
        GroupEntry* found;
        for (int size = 4096; size <= LargestEntry; size *= 4)
        {
            byte[] buffer = new byte[size];
            fixed (byte* strings = buffer)
            {
                int error = GetGroupByName(name, &entry, strings, (nuint)size, &found);
                if (error != RangeError)
                {
                    return error == 0 && found is not null ? entry.Id : null;
                }
            }
        }

        return null;
    }
}
