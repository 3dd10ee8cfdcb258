using System.Buffers;
using System.Text.Json;
using System.Text.Unicode;

namespace MigrationOps.Engine.Qmp;

/// <summary>
/// Walks a stream of JSON objects, whatever the pieces in which they come. It never does I/O, and looks at every
/// byte once, so that a reply of 64 MiB in small reads costs the same as one in large ones. Line ends between
/// the objects mean nothing: QEMU's <c>pretty=on</c> puts them inside.
/// </summary>
/// <param name="onObject">Told each object, in order. It has memory of its own.</param>
/// <param name="longest">The longest object that is accepted.</param>
internal sealed class JsonObjectWalker(Action<JsonElement> onObject, int longest = JsonObjectWalker.LongestMessage)
{
    /// <summary>The longest message that is accepted. The largest known reply, query-qmp-schema, has about 200 KB.</summary>
    internal const int LongestMessage = 64 << 20;

    // QEMU's own parser allows as much.
    private const int DeepestNesting = 1024;

    private static readonly SearchValues<byte> StringMarks = SearchValues.Create("\"\\"u8);
    private static readonly JsonDocumentOptions Options = new() { MaxDepth = DeepestNesting };

    private ArrayBufferWriter<byte> _held = new();
    private int _depth;
    private bool _inString;
    private bool _escaped;
    private bool _hasEscapes;

    /// <summary>Bytes that were taken since the start.</summary>
    internal long Offset { get; private set; }

    /// <summary>True between two objects: an end of the stream here cuts nothing in two.</summary>
    internal bool IsBetween => _depth == 0;

    /// <summary>Takes the next bytes, all of them.</summary>
    /// <param name="data">What has arrived.</param>
    /// <param name="last">True if no bytes will come.</param>
    /// <returns>How many bytes were used.</returns>
    /// <exception cref="QmpException"><see cref="QmpError.InvalidMessage"/>, <see cref="QmpError.MessageTooLarge"/>; or
    /// <see cref="QmpError.ConnectionLost"/> if the last byte is inside an object.</exception>
    internal int Feed(ReadOnlySpan<byte> data, bool last)
    {
        for (int used = 0; used < data.Length;)
        {
            used += Take(data[used..], out var value);
            if (value is { } found)
            {
                onObject(found);
            }
        }

        return !last || IsBetween ? data.Length
            : throw new QmpException(QmpError.ConnectionLost, $"The connection to the monitor ended within a message, at byte {Offset:N0}.") { ByteOffset = Offset };
    }

    private int Take(ReadOnlySpan<byte> data, out JsonElement? value)
    {
        value = null;
        int start = 0;
        if (_depth == 0)
        {
            start = data.IndexOfAnyExcept(" \t\r\n"u8);
            if (start < 0)
            {
                Offset += data.Length;
                return data.Length;
            }

            if (data[start] != (byte)'{')
            {
                throw Failure(QmpError.InvalidMessage, $"expected '{{', found 0x{data[start]:x2}", Offset + start);
            }
        }

        int end = FindEnd(data[start..]);
        int used = end < 0 ? data.Length : start + end;
        var piece = data[start..used];
        if (piece.Length > longest - _held.WrittenCount)
        {
            throw Failure(QmpError.MessageTooLarge, $"the message is longer than {longest:N0} bytes", Offset - _held.WrittenCount + start);
        }

        if (end < 0)
        {
            _held.Write(piece);
        }
        else if (_held.WrittenCount == 0 && !_hasEscapes)
        {
            value = Parse(piece, Offset + start);
        }
        else
        {
            long began = Offset - _held.WrittenCount + start;
            _held.Write(piece);
            value = Parse(_held.WrittenSpan, began);
            Forget();
        }

        Offset += used;
        return used;
    }

    // The index behind the brace that closes the object, or -1. Which bracket closes which is for the real parser.
    private int FindEnd(ReadOnlySpan<byte> data)
    {
        for (int i = 0; i < data.Length; i++)
        {
            if (_escaped)
            {
                _escaped = false;
                continue;
            }

            if (_inString)
            {
                int mark = data[i..].IndexOfAny(StringMarks);
                if (mark < 0)
                {
                    return -1;
                }

                i += mark;
                _escaped = data[i] == (byte)'\\';
                _hasEscapes |= _escaped;
                _inString = _escaped;
                continue;
            }

            switch (data[i])
            {
                case (byte)'"':
                    _inString = true;
                    break;
                case (byte)'{' or (byte)'[':
                    if (++_depth > DeepestNesting)
                    {
                        throw Failure(QmpError.InvalidMessage, $"more than {DeepestNesting} levels of nesting", Offset + i);
                    }

                    break;
                case (byte)'}' or (byte)']' when --_depth == 0:
                    return i + 1;
            }
        }

        return -1;
    }

    private JsonElement Parse(ReadOnlySpan<byte> message, long began)
    {
        if (!Utf8.IsValid(message))
        {
            throw Failure(QmpError.InvalidMessage, "the message is not UTF-8", began);
        }

        try
        {
            return JsonElement.Parse(_hasEscapes ? WithoutLoneSurrogates(message) : message, Options);
        }
        catch (JsonException e)
        {
            throw Failure(QmpError.InvalidMessage, $"not JSON: {e.Message.Split(". LineNumber")[0].TrimEnd('.')}", began + (e.LineNumber == 0 ? e.BytePositionInLine ?? 0 : 0), e);
        }
    }

    // A text with half a surrogate pair cannot be read as a string later. U+FFFD takes as many bytes as its escape.
    private static ReadOnlySpan<byte> WithoutLoneSurrogates(ReadOnlySpan<byte> message)
    {
        byte[]? copy = null;
        for (int i = 0; i + 1 < message.Length; i++)
        {
            if (message[i] != (byte)'\\')
            {
                continue;
            }

            if (message[i + 1] == (byte)'u' && IsSurrogate(message, i, out bool isHigh))
            {
                if (isHigh && IsSurrogate(message, i + 6, out bool nextIsHigh) && !nextIsHigh)
                {
                    i += 11;
                    continue;
                }

                copy ??= message.ToArray();
                "fffd"u8.CopyTo(copy.AsSpan(i + 2));
            }

            i++;
        }

        return copy ?? message;
    }

    private static bool IsSurrogate(ReadOnlySpan<byte> message, int at, out bool isHigh)
    {
        isHigh = false;
        if (at + 6 > message.Length || message[at] != (byte)'\\' || message[at + 1] != (byte)'u' || (message[at + 2] | 0x20) != (byte)'d')
        {
            return false;
        }

        int second = message[at + 3] | 0x20;
        isHigh = second is '8' or '9' or 'a' or 'b';
        return isHigh || second is 'c' or 'd' or 'e' or 'f';
    }

    private void Forget()
    {
        // A large reply must not leave its buffer behind for the life of the connection.
        if (_held.Capacity > 64 * 1024)
        {
            _held = new ArrayBufferWriter<byte>();
        }
        else
        {
            _held.ResetWrittenCount();
        }

        _hasEscapes = false;
    }

    private static QmpException Failure(QmpError reason, string what, long offset, Exception? cause = null)
        => new(reason, $"The monitor's bytes are not a QMP message: {what}, at byte {offset:N0}.", cause) { ByteOffset = offset };
}
