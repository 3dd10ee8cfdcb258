using FsCheck;
using FsCheck.Fluent;
using MigrationOps.Engine.Wire;
using Property = MigrationOps.Engine.Tests.Support.Property;

namespace MigrationOps.Engine.Tests.Wire;

public class EndpointTests
{
    public static TheoryData<string, Endpoint> Valid => new()
    {
        { "unix:/run/vfs0.sock", new Endpoint.Unix("/run/vfs0.sock") },
        { "unix:relative", new Endpoint.Unix("relative") },
        { "unix:@abstract", new Endpoint.Unix("@abstract") },
        { "unix:/with:colon,comma", new Endpoint.Unix("/with:colon,comma") },
        { "tcp:127.0.0.1:4444", new Endpoint.Tcp("127.0.0.1", 4444) },
        { "tcp:host.example:0", new Endpoint.Tcp("host.example", 0) },
        { "tcp::65535", new Endpoint.Tcp("", 65535) },
        { "tcp:[::1]:4444", new Endpoint.Tcp("::1", 4444) },
        { "tcp:[fe80::1%eth0]:1", new Endpoint.Tcp("fe80::1%eth0", 1) },
        { "file:/var/lib/a state", new Endpoint.File("/var/lib/a state") },
        { "file:a,offset=0", new Endpoint.File("a") },
        { "file:a,offset=4096", new Endpoint.File("a", 4096) },
        { "file:a,offset=0x1000", new Endpoint.File("a", 4096) },
        { "file:a,offset=0XfF", new Endpoint.File("a", 255) },
        { "file:a,offset=7B", new Endpoint.File("a", 7) },
        { "file:a,offset=4k", new Endpoint.File("a", 4096) },
        { "file:a,offset=3M", new Endpoint.File("a", 3 << 20) },
        { "file:a,offset=2G", new Endpoint.File("a", 2L << 30) },
        { "file:a,offset=1t", new Endpoint.File("a", 1L << 40) },
        { "file:a,b", new Endpoint.File("a,b") },
        { "file:a,offset=1,offset=2", new Endpoint.File("a,offset=1", 2) },
        { "fd:0", new Endpoint.Fd(0) },
        { "fd:17", new Endpoint.Fd(17) },
    };

    [Theory]
    [MemberData(nameof(Valid))]
    public void A_uri_in_qemus_syntax_is_understood(string uri, Endpoint endpoint)
    {
        Assert.Equal(endpoint, Endpoint.Parse(uri));
        Assert.Equal(endpoint, Endpoint.Parse(endpoint.ToString()));
    }

    [Theory]
    [InlineData("")]
    [InlineData("/run/vfs0.sock")]
    [InlineData("http://host")]
    [InlineData("UNIX:/a")]
    [InlineData("unix:")]
    [InlineData("tcp:")]
    [InlineData("tcp:host")]
    [InlineData("tcp:host:")]
    [InlineData("tcp:host:65536")]
    [InlineData("tcp:host:-1")]
    [InlineData("tcp:host:+1")]
    [InlineData("tcp:host: 1")]
    [InlineData("tcp:host:0x10")]
    [InlineData("tcp:::1:4444")]
    [InlineData("tcp:[::1]")]
    [InlineData("tcp:[::1]4444")]
    [InlineData("tcp:[nonsense]:4444")]
    [InlineData("tcp:host:4444,to=5")]
    [InlineData("file:")]
    [InlineData("file:,offset=1")]
    [InlineData("file:a,offset=")]
    [InlineData("file:a,offset=-1")]
    [InlineData("file:a,offset=1x")]
    [InlineData("file:a,offset=k")]
    [InlineData("file:a,offset=0x")]
    [InlineData("file:a,offset=0xffffffffffffffff")]
    [InlineData("file:a,offset=9223372036854775808")]
    [InlineData("file:a,offset=9000000T")]
    [InlineData("fd:")]
    [InlineData("fd:-1")]
    [InlineData("fd:name")]
    [InlineData("fd:99999999999")]
    public void A_uri_that_cannot_be_understood_is_an_error_that_shows_it_and_the_syntax(string uri)
    {
        var e = Assert.Throws<WireException>(() => Endpoint.Parse(uri));
        Assert.Equal(WireError.InvalidEndpoint, e.Reason);
        Assert.Equal("WireInvalidEndpoint", e.ErrorId);
        Assert.Equal(FailureKind.InvalidArgument, e.Kind);
        Assert.Contains($"'{uri}'", e.Message);
        Assert.Contains("unix:PATH", e.RecommendedAction);
    }

    [Theory]
    [InlineData("exec:cat")]
    [InlineData("rdma:host:1")]
    [InlineData("vsock:2:1234")]
    public void A_scheme_that_only_qemu_has_is_named_as_such(string uri)
    {
        var e = Assert.Throws<WireException>(() => Endpoint.Parse(uri));
        Assert.Equal(WireError.UnsupportedEndpoint, e.Reason);
        Assert.Equal(FailureKind.NotSupported, e.Kind);
    }

    [Fact]
    public void Every_endpoint_is_what_its_text_parses_to()
    {
        var text = Gen.Elements("a", "/", ":", ",", ",offset=", "[", "]", "0", "=", " ", "x").ListOf()
            .Select(parts => string.Concat(parts)).Where(path => path.Length > 0);
        var sizes = Gen.Choose(0, int.MaxValue);
        Property.Holds(Gen.OneOf(
            text.Select(path => (Endpoint)new Endpoint.Unix(path)),
            text.SelectMany(path => sizes.Select(size => (Endpoint)new Endpoint.File(path, size))),
            text.Select(path => (Endpoint)new Endpoint.File(path)),
            Gen.Elements("", "host", "1.2.3.4", "::1", "fe80::1%eth0").SelectMany(
                host => Gen.Choose(0, 65535).Select(port => (Endpoint)new Endpoint.Tcp(host, port))),
            sizes.Select(number => (Endpoint)new Endpoint.Fd(number))),
            endpoint => Assert.Equal(endpoint, Endpoint.Parse(endpoint.ToString())));
    }

    [Theory]
    [InlineData("tcp:127.0.0.1:1", false)]
    [InlineData("tcp:127.9.9.9:1", false)]
    [InlineData("tcp:[::1]:1", false)]
    [InlineData("tcp:LocalHost:1", false)]
    [InlineData("unix:/a", false)]
    [InlineData("file:/a", false)]
    [InlineData("fd:1", false)]
    [InlineData("tcp::1", true)]
    [InlineData("tcp:0.0.0.0:1", true)]
    [InlineData("tcp:[::]:1", true)]
    [InlineData("tcp:192.0.2.1:1", true)]
    [InlineData("tcp:localhost.example:1", true)]
    public void What_leaves_the_machine_is_told_from_what_stays(string uri, bool network)
        => Assert.Equal(network, Endpoint.Parse(uri).IsNetwork);
}
