using System.Buffers.Binary;
using System.IO.Compression;
using Microsoft.Win32.SafeHandles;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// A migration stream to read: a file (bare or at an offset), a libvirt save image, the folder of a multifd migration,
/// or anything that can be read forward only.
/// </summary>
internal sealed class StreamSource : IDisposable
{
    // The most that an ordinary user may have.
    private const int PipeSize = 1 << 20;

    private readonly Stream _owner;
    private readonly List<FileStream> _channels = [];
    private Qcow2Image? _image;

    private StreamSource(string name, Stream owner)
    {
        Name = name;
        _owner = owner;
        Input = owner;
    }

    /// <summary>What errors call it.</summary>
    internal string Name { get; }

    /// <summary>The stream, positioned at its first byte.</summary>
    internal Stream Input { get; private set; }

    internal LibvirtImage? Libvirt { get; private set; }

    /// <summary>Where the stream starts in the file.</summary>
    internal long BaseOffset { get; private set; }

    /// <summary>The recorded multifd channels.</summary>
    internal IReadOnlyList<FileStream> Channels => _channels;

    /// <summary>True if bytes can be read again and stepped over.</summary>
    internal bool CanSeek => Input is FileStream { CanSeek: true };

    internal SafeFileHandle Handle => ((FileStream)Input).SafeFileHandle;

    /// <summary>Opens a path: a file, a named pipe, or the folder of an archive.</summary>
    /// <param name="path">The path.</param>
    /// <param name="offset">Bytes before the stream, as in QEMU's <c>file:PATH,offset=N</c>.</param>
    /// <param name="snapshot">Which snapshot's state of a qcow2 image; null for the only one.</param>
    /// <param name="scope">How long a pipe may give nothing, and cancellation; it stays the caller's.</param>
    internal static StreamSource Open(string path, long offset, string? snapshot, TransferScope scope)
    {
        if (Directory.Exists(path))
        {
            return OpenArchive(path);
        }

        if (File.Exists(path) && FileKinds.Of(path) != FileKind.Regular)
        {
            return OpenPipe(path, scope);
        }

        if (Qcow2Image.TryOpen(path, offset) is { } image)
        {
            return OpenSnapshot(image, snapshot);
        }

        if (snapshot is not null)
        {
            throw new StreamException(StreamError.NotSupported, $"'{path}' is no qcow2 image, so that it has no snapshot '{snapshot}'.", action: "Leave the snapshot out, or give the disk image that has it.")
            { Target = path };
        }

        var file = OpenFile(path);
        try
        {
            if (file.CanSeek)
            {
                file.Position = offset;
            }

            return From(path, file, offset);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Takes a stream that can only be read forward; it is disposed with the source.</summary>
    internal static StreamSource Forward(string name, Stream input) => From(name, input, 0);

    public void Dispose()
    {
        if (!ReferenceEquals(Input, _owner))
        {
            Input.Dispose();
        }

        _owner.Dispose();
        _channels.ForEach(c => c.Dispose());
        _image?.Dispose();
    }

    private static StreamSource OpenSnapshot(Qcow2Image image, string? snapshot)
    {
        try
        {
            image.Header.ThrowIfUnreadable(image.Name);
            var chosen = image.Choose(snapshot);
            return new StreamSource($"{image.Name}, snapshot '{chosen.Name}'", image.OpenState(chosen)) { _image = image };
        }
        catch
        {
            image.Dispose();
            throw;
        }
    }

    // A pipe is opened and read with a deadline: its writer may never come.
    private static StreamSource OpenPipe(string path, TransferScope scope)
    {
        var handle = OpenForReading.NonBlocking(path);
        Fcntl.TrySetPipeSize(handle, PipeSize);
        var pipe = new FdStream(handle, FileAccess.Read, scope, path);
        try
        {
            return From(path, pipe, 0);
        }
        catch
        {
            pipe.Dispose();
            throw;
        }
    }

    internal static FileStream OpenFile(string path)
    {
        try
        {
            return new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new WireException(WireError.NotFound, $"The stream '{path}' does not exist.", e, "Check the path.") { Target = path };
        }
        catch (UnauthorizedAccessException e)
        {
            throw new WireException(WireError.AccessDenied, $"The stream '{path}' cannot be opened: {e.Message}", e) { Target = path };
        }
        catch (IOException e)
        {
            throw new WireException(WireError.InputOutput, $"The stream '{path}' cannot be opened: {e.Message}", e) { Target = path };
        }
    }

    private static StreamSource From(string name, Stream input, long baseOffset)
    {
        var source = new StreamSource(name, input) { BaseOffset = baseOffset };
        var start = new byte[LibvirtImage.HeaderLength];
        int length = input.ReadAtLeast(start.AsSpan(0, 4), 4, throwOnEndOfStream: false);
        if (length < 4 || !start.AsSpan(0, 4).SequenceEqual("Libv"u8))
        {
            source.Restart(start.AsSpan(0, length), baseOffset);
            return source;
        }

        length += input.ReadAtLeast(start.AsSpan(4), start.Length - 4, throwOnEndOfStream: false);
        if (length < start.Length || !LibvirtImage.IsMagic(start))
        {
            throw new StreamException(StreamError.Truncated, $"'{name}' ends at byte {length}, inside the header of a libvirt save image.")
            { ByteOffset = length, Target = name };
        }

        source.EnterLibvirt(LibvirtImage.Parse(start, name), baseOffset);
        return source;
    }

    private void Restart(ReadOnlySpan<byte> taken, long position)
    {
        if (_owner.CanSeek)
        {
            _owner.Position = position;
        }
        else
        {
            Input = new PrefixedStream(taken.ToArray(), _owner);
        }
    }

    private void EnterLibvirt(LibvirtImage image, long baseOffset)
    {
        Libvirt = image;
        BaseOffset = baseOffset + image.StreamOffset;
        if (_owner.CanSeek)
        {
            _owner.Position = BaseOffset;
        }
        else
        {
            SkipForward(_owner, image.DataLength);
        }

        Input = image.Compression switch
        {
            "raw" or "sparse" => Input,
            "gzip" => new GZipStream(_owner, CompressionMode.Decompress, leaveOpen: true),
            var program => new Decompressor(program, input => _owner.CopyTo(input)),
        };
    }

    private static void SkipForward(Stream input, long count)
    {
        var buffer = new byte[4096];
        while (count > 0)
        {
            int got = input.Read(buffer, 0, (int)Math.Min(count, buffer.Length));
            if (got == 0)
            {
                throw new StreamException(StreamError.Truncated, "The libvirt save image ends inside the domain's XML.");
            }

            count -= got;
        }
    }

    // The files' first bytes tell what they are, whatever the recorder called them.
    private static StreamSource OpenArchive(string folder)
    {
        StreamSource? main = null;
        var channels = new List<FileStream>();
        try
        {
            foreach (string path in Directory.EnumerateFiles(folder).Order(StringComparer.Ordinal))
            {
                var file = OpenFile(path);
                var start = new byte[4];
                uint magic = file.ReadAtLeast(start, 4, throwOnEndOfStream: false) < 4 ? 0 : BinaryPrimitives.ReadUInt32BigEndian(start);
                file.Position = 0;
                switch (magic)
                {
                    case MultifdChannelWalker.Magic:
                        channels.Add(file);
                        break;
                    case StreamFormat.Magic when main is null:
                        main = new StreamSource(path, file);
                        break;
                    case StreamFormat.Magic:
                        file.Dispose();
                        throw new StreamException(StreamError.NotAStream, $"The folder '{folder}' has two main streams: '{main!.Name}' and '{path}'.") { Target = folder };
                    default:
                        file.Dispose();
                        break;
                }
            }

            if (main is null)
            {
                throw new StreamException(StreamError.NotAStream, $"The folder '{folder}' has no file that is a main migration stream.") { Target = folder };
            }

            main._channels.AddRange(channels);
            return main;
        }
        catch
        {
            main?.Dispose();
            channels.ForEach(c => c.Dispose());
            throw;
        }
    }
}

/// <summary>Gives bytes that were read too early once more, then the rest.</summary>
internal sealed class PrefixedStream(byte[] prefix, Stream rest) : ForwardStream
{
    private int _given;

    public override int Read(Span<byte> buffer)
    {
        if (_given == prefix.Length)
        {
            return rest.Read(buffer);
        }

        int count = Math.Min(buffer.Length, prefix.Length - _given);
        prefix.AsSpan(_given, count).CopyTo(buffer);
        _given += count;
        return count;
    }
}
