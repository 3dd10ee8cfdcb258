# Classes of the user's own, for suites that migrate devices. To be dot-sourced in BeforeAll, after Support.ps1: PowerShell compiles them
# when the script runs, after the module is there, and once in a session.
if (-not ('PesterNvram' -as [type])) {
    Add-Type -ReferencedAssemblies "$moduleFolder/MigrationOps.Shared.dll", System.Runtime, System.Threading -IgnoreWarnings -TypeDefinition @'
using MigrationOps;
public sealed class PesterPackets : ISaveVmHandlers
{
    public int Taken;
    public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt16(1);
    public void SaveLiveCompletePrecopy(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteUInt16(2);
    public void SaveLiveCompletePrecopyThread(System.Action<System.ReadOnlyMemory<byte>> send, SaveVmContext context)
    {
        for (int i = 0; i < 20; i++) send(new byte[1000]);
    }
    public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId) => stream.ReadUInt16();
    public void LoadStateBuffer(System.ReadOnlyMemory<byte> data, SaveVmContext context) => System.Threading.Interlocked.Increment(ref Taken);
}
public sealed class PesterBusy : ISaveVmHandlers
{
    public int Pieces, Cleanups;
    public void SaveSetup(SaveVmSaveStream stream, SaveVmContext context) { }
    public PendingBytes StatePendingEstimate(SaveVmContext context) => new PendingBytes(1L << 40);
    public bool SaveLiveIterate(SaveVmSaveStream stream, SaveVmContext context) { stream.WriteUInt32(1); Pieces++; return true; }
    public void SaveCleanup(SaveVmContext context) => Cleanups++;
}
public sealed class PesterNvram : ISaveVmHandlers
{
    public byte[] State = { 1, 2, 3, 4 };
    public int Cleanups;
    public void SaveState(SaveVmSaveStream stream, SaveVmContext context) => stream.WriteBytes(State);
    public void SaveCleanup(SaveVmContext context) => Cleanups++;
    public void LoadState(SaveVmLoadStream stream, SaveVmContext context, int versionId) => State = stream.ReadBytes(4);
    public void LoadCleanup(SaveVmContext context) => Cleanups++;
}
'@
}
