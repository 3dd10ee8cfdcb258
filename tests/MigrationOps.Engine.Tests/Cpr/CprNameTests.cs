using System.Text;
using FsCheck;
using FsCheck.Fluent;
using MigrationOps.Engine.Cpr;
using Property = MigrationOps.Engine.Tests.Support.Property;

namespace MigrationOps.Engine.Tests.Cpr;

public class CprNameTests
{
    [Fact]
    public void A_name_that_is_not_text_is_kept_as_bytes_and_shown_escaped()
    {
        var name = new CprName([0x72, 0xff, 0x5c, 0x0a, 0xc3, 0xa9]);
        Assert.Equal(@"r\xff\\\x0aé", name.ToString());
        Assert.Equal(name, CprName.Parse(name.ToString()));
    }

    [Fact]
    public void Every_name_reads_back_from_its_text()
    {
        Property.Holds<NonEmptyArray<byte>>(bytes =>
        {
            byte[] content = [.. bytes.Get.Where(value => value != 0).Append((byte)'x')];
            var name = new CprName(content);
            return CprName.Parse(name.ToString()) == name && name.Bytes.SequenceEqual(content);
        });
    }

    [Theory]
    [InlineData("", CprError.InvalidName)]
    [InlineData("a\0b", CprError.InvalidName)]
    [InlineData(@"a\", CprError.InvalidName)]
    [InlineData(@"a\x4", CprError.InvalidName)]
    [InlineData(@"a\xzz", CprError.InvalidName)]
    [InlineData(@"a\n", CprError.InvalidName)]
    [InlineData(@"\x00", CprError.InvalidName)]
    public void A_text_that_is_no_name_is_an_error(string text, CprError expected)
        => Assert.Equal(expected, Assert.Throws<CprException>(() => CprName.Parse(text)).Reason);

    [Fact]
    public void A_name_has_at_most_4096_bytes()
    {
        Assert.Equal(4096, CprName.Parse(new string('n', 4096)).Bytes.Length);
        var error = Assert.Throws<CprException>(() => CprName.Parse(new string('n', 4097)));
        Assert.Equal(CprError.NameTooLong, error.Reason);
        Assert.Contains("4,097", error.Message);
    }

    [Fact]
    public void Names_are_equal_by_their_bytes()
    {
        Assert.Equal(CprName.Parse("pc.ram").GetHashCode(), new CprName("pc.ram"u8).GetHashCode());
        Assert.NotEqual(CprName.Parse("é"), new CprName(Encoding.Latin1.GetBytes("é")));
    }
}
