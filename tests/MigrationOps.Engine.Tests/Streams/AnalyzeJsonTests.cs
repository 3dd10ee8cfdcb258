using System.IO.Pipelines;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Streams;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Tests.Streams;

public class AnalyzeJsonTests
{
    [Theory]
    [InlineData("none-tcg.plain.stream")]
    [InlineData("microvm-tcg.plain.stream")]
    public void The_json_is_the_python_script_s_to_the_byte(string name)
        => Assert.Equal(File.ReadAllText(StreamVectors.PathOf(name + ".analyze.json")), JsonOf(scope => StreamSource.Open(StreamVectors.PathOf(name), 0, null, scope)));

    [Theory]
    [InlineData("microvm-tcg.plain.stream")]
    [InlineData("q35-kvm.ignore-shared.stream")]
    [InlineData("vfio-classic.main.stream")]
    public void From_a_pipe_the_json_is_the_same(string name)
    {
        byte[] stream = StreamVectors.Read(name);
        var forward = PipeReader.Create(new System.Buffers.ReadOnlySequence<byte>(stream)).AsStream();
        Assert.False(forward.CanSeek);
        Assert.Equal(JsonOf(scope => StreamSource.Open(StreamVectors.PathOf(name), 0, null, scope)), JsonOf(_ => StreamSource.FromForward(name, forward)));
    }

    private static string JsonOf(Func<TransferScope, StreamSource> open)
    {
        using var scope = new TransferScope(TimeSpan.FromSeconds(9));
        using var source = open(scope);
        using var contents = MigrationStreamFile.Read(source, new StreamReadOptions { KeepBodies = true }, scope);
        Assert.Null(contents.Failure);
        var text = new StringWriter();
        new AnalyzeJson(contents, text).Write();
        return text.ToString();
    }
}
