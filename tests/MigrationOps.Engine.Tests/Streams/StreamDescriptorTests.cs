using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Tests.Support;

namespace MigrationOps.Engine.Tests.Streams;

[Collection(Alone.Name)]
public class StreamDescriptorTests
{
    [Fact]
    public void Reading_leaves_no_descriptor_open_whatever_the_outcome()
    {
        using var folder = new TestFolder();
        byte[] good = StreamVectors.Read("small.stream");
        string cut = folder["cut"], gzip = folder["gzip"];
        File.WriteAllBytes(cut, good[..200_000]);
        byte[] header = [.. "LibvirtQemudSave"u8, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, .. new byte[60]];
        File.WriteAllBytes(gzip, [.. header, .. good]);
        Read();
        int before = ProcessUse.Descriptors;
        for (int i = 0; i < 20; i++)
        {
            Read();
        }

        Assert.InRange(ProcessUse.Descriptors, 0, before + 5);

        void Read()
        {
            foreach (string path in new[] { cut, gzip, StreamVectors.PathOf("small.stream"), StreamVectors.PathOf("vfio-multifd") })
            {
                MigrationStreams.Test(new MigrationStreamInput { Path = path });
            }

            MigrationStreams.Test(new MigrationStreamInput { Path = "x", Forward = new ForwardOnly(good) });
            Assert.ThrowsAny<MigrationOpsException>(() => MigrationStreams.GetInfo(new MigrationStreamInput { Path = folder["nothing"] }));
        }
    }
}
