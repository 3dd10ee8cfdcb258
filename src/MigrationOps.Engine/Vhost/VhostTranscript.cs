using System.Diagnostics;
using Microsoft.Extensions.Logging;

namespace MigrationOps.Engine.Vhost;

/// <summary>The conversation with a back-end, message by message: the latest ones are kept for errors, all of them are logged.</summary>
internal sealed partial class VhostTranscript(ILogger logger)
{
    private const int Capacity = 64;

    private readonly Queue<string> _lines = new(Capacity);
    private readonly long _start = Stopwatch.GetTimestamp();

    internal IReadOnlyList<string> Lines => [.. _lines];

    internal void Sent(VhostUserRequest request, string detail, int descriptors) => Add('>', request, detail, descriptors);

    internal void Received(VhostUserRequest request, string detail, int descriptors) => Add('<', request, detail, descriptors);

    internal void Note(string text) => Keep($"{Elapsed()} - {text}");

    private void Add(char direction, VhostUserRequest request, string detail, int descriptors)
    {
        string fds = descriptors switch { 0 => "", 1 => " + 1 fd", _ => $" + {descriptors} fds" };
        Keep($"{Elapsed()} {direction} {VhostUserHeader.NameOf(request)}{(detail.Length > 0 ? " " : "")}{detail}{fds}");
    }

    private string Elapsed() => $"{Stopwatch.GetElapsedTime(_start).TotalMilliseconds,8:0.0} ms";

    private void Keep(string line)
    {
        if (_lines.Count == Capacity)
        {
            _lines.Dequeue();
        }

        _lines.Enqueue(line);
        LogLine(logger, line);
    }

    [LoggerMessage(EventId = 1, Level = LogLevel.Information, Message = "{Line}")]
    private static partial void LogLine(ILogger logger, string line);
}
