using System.IO.Compression;
using MigrationOps.Engine.Native;
using MigrationOps.Engine.Qemu;
using MigrationOps.Engine.Wire;

namespace MigrationOps.Engine.Streams;

/// <summary>
/// A migration stream to read: a file or block device (bare or at an offset), a libvirt save image, either of them compressed,
/// the folder of a multifd migration, or anything that can be read forward only.
/// </summary>
internal sealed class StreamSource : IDisposable
{
    // The most that an ordinary user may have.
    private const int PipeSize = 1 << 20;

    // What tells a file's kind; a stream's own is told by its first four bytes.
    private const int StartLength = 4096;

    private readonly List<IDisposable> _owned = [];
    private readonly List<FileStream> _channels = [];

    private StreamSource(string name) => Name = name;

    /// <summary>What errors call it.</summary>
    internal string Name { get; }

    /// <summary>The stream, positioned at its first byte, if it can be read forward only; else null.</summary>
    internal Stream? Forward { get; private set; }

    /// <summary>The stream in a file or on a block device; else null.</summary>
    internal FileInput? File { get; private set; }

    internal LibvirtImage? Libvirt { get; private set; }

    /// <summary>How the whole file is compressed; null if it is not, or in a libvirt image.</summary>
    internal string? Compression { get; private set; }

    /// <summary>Where the stream starts in the file, or among the bytes that a program decompressed.</summary>
    internal long BaseOffset { get; private set; }

    /// <summary>Why what is there is no stream that can be read; null if it may be one.</summary>
    internal StreamException? Refusal { get; private set; }

    /// <summary>The recorded multifd channels.</summary>
    internal IReadOnlyList<FileStream> Channels => _channels;

    /// <summary>Opens a path: a file, a block device, a named pipe, or the folder of an archive.</summary>
    /// <param name="path">The path.</param>
    /// <param name="offset">Bytes before the stream, as in QEMU's <c>file:PATH,offset=N</c>.</param>
    /// <param name="snapshot">Which snapshot's state of a qcow2 image; null for the only one.</param>
    /// <param name="scope">How long a pipe may give nothing, and cancellation; it stays the caller's.</param>
    internal static StreamSource Open(string path, long offset, string? snapshot, TransferScope scope)
    {
        if (IsSeekable(path) && Qcow2Image.TryOpen(path, offset) is { } image)
        {
            return OpenSnapshot(image, snapshot);
        }

        if (snapshot is not null)
        {
            throw new StreamException(StreamError.NotSupported, $"'{path}' is not a qcow2 image, so it has no snapshot '{snapshot}'.", action: "Leave the snapshot out, or give the disk image that has it.")
            { Target = path };
        }

        var source = new StreamSource(path);
        try
        {
            if (Directory.Exists(path))
            {
                StreamArchive.Open(path, out var main, source._channels);
                source.AddOwned(main);
                source.EnterFile(main, 0);
            }
            else if (System.IO.File.Exists(path) && !IsSeekable(path))
            {
                // A pipe is opened and read with a deadline: its writer may never come.
                var handle = OpenForReading.NonBlocking(path);
                Fcntl.TrySetPipeSize(handle, PipeSize);
                source.EnterForward(source.AddOwned(new FdStream(handle, FileAccess.Read, scope, path)));
            }
            else
            {
                var file = source.AddOwned(OpenFile(path));
                if (offset == 0 && !Lseek.HasEnd(file.SafeFileHandle))
                {
                    // A file of the kernel, such as those below /proc.
                    source.EnterForward(file);
                }
                else
                {
                    source.EnterFile(file, offset);
                }
            }

            return source;
        }
        catch
        {
            source.Dispose();
            throw;
        }
    }

    /// <summary>Takes a stream that can only be read forward; it is disposed with the source.</summary>
    internal static StreamSource FromForward(string name, Stream input)
    {
        var source = new StreamSource(name);
        source.EnterForward(source.AddOwned(input));
        return source;
    }

    public void Dispose()
    {
        // What reads another one goes before it.
        for (int i = _owned.Count - 1; i >= 0; i--)
        {
            _owned[i].Dispose();
        }

        _channels.ForEach(c => c.Dispose());
    }

    /// <summary>True for a file or block device, which can be read again and at any place.</summary>
    internal static bool IsSeekable(string path)
        => System.IO.File.Exists(path) && FileKinds.Of(path) is FileKind.Regular or FileKind.BlockDevice;

    private static StreamSource OpenSnapshot(Qcow2Image image, string? snapshot)
    {
        try
        {
            image.Header.ThrowIfUnreadable(image.Name);
            var chosen = image.Choose(snapshot);
            var source = new StreamSource($"{image.Name}, snapshot '{chosen.Name}'");
            source.AddOwned(image);
            source.EnterForward(source.AddOwned(image.OpenState(chosen)));
            return source;
        }
        catch
        {
            image.Dispose();
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

    private void EnterFile(FileStream file, long offset)
    {
        var input = new FileInput(file.SafeFileHandle, offset, Name);
        var start = new byte[StartLength];
        int length = input.Read(0, start);
        Enter(start.AsSpan(0, length), input.Length, file: input, forward: null);
    }

    private void EnterForward(Stream input)
    {
        var start = new byte[StartLength];
        int length = ReadAtLeast(input, start, 0, sizeof(uint));
        if (!IsStream(start.AsSpan(0, length)))
        {
            length = ReadAtLeast(input, start, length, start.Length);
        }

        var taken = start.AsSpan(0, length);
        Enter(taken, length < start.Length ? length : long.MaxValue, file: null, new PrefixedStream(taken.ToArray(), input));
    }

    // One of file and forward is there.
    private void Enter(ReadOnlySpan<byte> start, long length, FileInput? file, Stream? forward)
    {
        (File, Forward) = (file, forward);
        BaseOffset = file?.Start ?? BaseOffset;
        if (IsStream(start))
        {
            return;
        }

        if (start.StartsWith("Libvirt"u8) && Libvirt is null)
        {
            EnterLibvirt(start, length, file, forward);
        }
        else if (Compressions.Of(start) is { } program && Compression is null && Libvirt is null)
        {
            (Compression, BaseOffset) = (program, 0);
            Decompress(program, file, forward);
        }
        else
        {
            Refusal = ForeignFile.Refuse(start, length, file, Compression);
        }
    }

    private void EnterLibvirt(ReadOnlySpan<byte> start, long length, FileInput? file, Stream? forward)
    {
        if (start.Length >= LibvirtImage.HeaderLength && !LibvirtImage.IsMagic(start))
        {
            Refusal = ForeignFile.Refuse(start, length, file, Compression);
            return;
        }

        LibvirtImage? image;
        try
        {
            var reader = WireReader.BigEndian(start, source: Name);
            if (!LibvirtImage.TryRead(ref reader, out image))
            {
                throw new StreamException(StreamError.Truncated, $"The file ends at byte {start.Length}, inside the header of a libvirt save image, which has {LibvirtImage.HeaderLength} bytes.")
                { ByteOffset = start.Length };
            }
        }
        catch (StreamException e)
        {
            Refusal = e;
            return;
        }

        bool keep = image.DataLength <= LibvirtImage.MaxXmlLength;
        if (file is not null && keep)
        {
            byte[] data = new byte[image.DataLength];
            image = image.WithXml(data.AsSpan(0, file.Read(LibvirtImage.HeaderLength, data)));
        }

        Libvirt = image;
        BaseOffset += image.StreamOffset;
        if (length <= image.StreamOffset)
        {
            Refusal = image.Truncated(length);
        }
        else if (image.Compression is "raw" or "sparse")
        {
            if (file is not null)
            {
                File = new FileInput(file.Handle, file.Start + image.StreamOffset, Name);
            }
            else
            {
                Skip(forward!, image);
            }
        }
        else
        {
            if (forward is not null)
            {
                Skip(forward, image);
            }

            Decompress(image.Compression, file is null ? null : new FileInput(file.Handle, file.Start + image.StreamOffset, Name), forward);
        }
    }

    private void Decompress(string program, FileInput? file, Stream? forward)
    {
        var compressed = forward ?? new FileInputStream(file!);
        Stream output = program == "gzip"
            ? new GZipStream(compressed, CompressionMode.Decompress, leaveOpen: true)
            : new Decompressor(program, input => compressed.CopyTo(input));
        AddOwned(output);
        try
        {
            EnterForward(output);
        }
        catch (Exception e) when (e is InvalidDataException or StreamException { Reason: StreamError.Decompression })
        {
            Refusal = e as StreamException
                ?? new StreamException(StreamError.Decompression, $"The file is compressed with {program} and cannot be decompressed: {e.Message}", e, Compressions.DamagedAction);
        }
    }

    private void Skip(Stream input, LibvirtImage image)
    {
        byte[] kept = new byte[image.DataLength <= LibvirtImage.MaxXmlLength ? image.StreamOffset : 0];
        byte[] buffer = new byte[4096];
        for (long done = 0; done < image.StreamOffset;)
        {
            int got = input.Read(buffer, 0, (int)Math.Min(image.StreamOffset - done, buffer.Length));
            if (got == 0)
            {
                Refusal = image.Truncated(done);
                return;
            }

            if (kept.Length > 0)
            {
                buffer.AsSpan(0, got).CopyTo(kept.AsSpan((int)done));
            }

            done += got;
        }

        Libvirt = kept.Length > 0 ? image.WithXml(kept.AsSpan(LibvirtImage.HeaderLength)) : image;
    }

    private static bool IsStream(ReadOnlySpan<byte> start) => start.StartsWith(StreamFormat.MagicBytes);

    private static int ReadAtLeast(Stream input, byte[] buffer, int have, int wanted)
    {
        try
        {
            return have + input.ReadAtLeast(buffer.AsSpan(have), wanted - have, throwOnEndOfStream: false);
        }
        catch (IOException e)
        {
            throw new WireException(WireError.InputOutput, $"The stream cannot be read: {e.Message}", e);
        }
    }

    private T AddOwned<T>(T disposable)
        where T : IDisposable
    {
        _owned.Add(disposable);
        return disposable;
    }
}
