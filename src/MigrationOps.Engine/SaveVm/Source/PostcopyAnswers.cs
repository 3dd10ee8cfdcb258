using MigrationOps.Engine.Qemu;

namespace MigrationOps.Engine.SaveVm;

/// <summary>
/// What the target says in postcopy, as the return path's thread hears it. It outlives connections: that the target has loaded the
/// package stays true after the one that said so is lost.
/// </summary>
internal sealed class PostcopyAnswers(IReadOnlyList<EntryContext> contexts) : IDisposable
{
    private readonly ManualResetEvent _ready = new(false);
    private readonly ManualResetEvent _loaded = new(false);
    private readonly AutoResetEvent _resumed = new(false);
    private readonly AutoResetEvent _bitmapCame = new(false);
    private string? _lastBlock;

    /// <summary>Set once the target has loaded what came before the package.</summary>
    internal WaitHandle Ready => _ready;

    /// <summary>Set once the target has loaded everything that it needs to run.</summary>
    internal WaitHandle PackageLoaded => _loaded;

    /// <summary>Signalled when the target resumes after a pause.</summary>
    internal WaitHandle Resumed => _resumed;

    /// <summary>Signalled when <see cref="Bitmap"/> has come.</summary>
    internal WaitHandle BitmapCame => _bitmapCame;

    /// <summary>The last bitmap, and whose it is.</summary>
    internal (string Block, byte[] Bits) Bitmap { get; private set; }

    /// <summary>True once pages may be asked for.</summary>
    internal bool MayRequest { get; set; }

    /// <summary>A new connection: nothing that was said on the lost one counts for it.</summary>
    internal void Renew()
    {
        _resumed.Reset();
        _bitmapCame.Reset();
        _lastBlock = null;
    }

    /// <summary>An answer to a ping.</summary>
    internal void Pong(uint value)
    {
        switch (value)
        {
            case PostcopyCodec.BeforePackage:
                _ready.Set();
                break;
            case PostcopyCodec.PackageLoaded:
                _loaded.Set();
                break;
        }
    }

    /// <summary>Any other message of postcopy.</summary>
    internal void Handle(ReturnPathMessage message, ReturnPathReader reader)
    {
        long offset = reader.Offset;
        switch (message.Type)
        {
            case ReturnPathMessageType.ResumeAck when message.Value == PostcopyCodec.Resumed:
                _loaded.Set();
                _resumed.Set();
                break;
            case ReturnPathMessageType.ReceivedBitmap when PostcopyCodec.ParseName(message.Data) is { } block:
                Bitmap = (block, reader.ReadBitmap(block));
                _bitmapCame.Set();
                break;
            case ReturnPathMessageType.RequestPages or ReturnPathMessageType.RequestPagesWithId
                when MayRequest && PostcopyCodec.ParseRequest(message.Data, _lastBlock) is { } pages:
                _lastBlock = pages.Block;
                Request(pages, offset);
                break;
            default:
                throw ReturnPathCodec.Invalid(offset, $"{message.Type} with {message.Data.Length} bytes has no meaning there");
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _ready.Dispose();
        _loaded.Dispose();
        _resumed.Dispose();
        _bitmapCame.Dispose();
    }

    private void Request(SaveVmPages pages, long offset)
    {
        foreach (var context in contexts)
        {
            try
            {
                if (context.Entry.Handlers is ISaveVmPages device && device.RequestPages(pages, context))
                {
                    return;
                }
            }
            catch (Exception e)
            {
                throw new SaveVmException(SaveVmError.HandlerFailed,
                    $"{nameof(ISaveVmPages.RequestPages)} of {HandlerCaller.Name(context.Entry)} failed: {e.Message}", e)
                { Section = HandlerCaller.Name(context.Entry), Target = context.Entry.ToString() };
            }
        }

        throw ReturnPathCodec.Invalid(offset, $"The target asks for pages of '{pages.Block}', which no device here has");
    }
}
