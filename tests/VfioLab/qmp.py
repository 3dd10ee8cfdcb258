#!/usr/bin/env python3
"""qmp.py SOCKET COMMAND PROPERTY: a property of a QEMU monitor's answer, once it is final in the case of a migration's status."""
import json, socket, sys, time

path, command, name = sys.argv[1:]
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(60)
connection.connect(path)
stream = connection.makefile('rw')
stream.readline()


def ask(execute):
    stream.write(json.dumps({'execute': execute}) + '\n')
    stream.flush()
    while True:
        answer = json.loads(stream.readline())
        if 'error' in answer:
            raise SystemExit(answer['error']['desc'])
        if 'return' in answer:
            return answer['return']


ask('qmp_capabilities')
until = time.monotonic() + 60
while True:
    value = ask(command).get(name)
    if command != 'query-migrate' or value in ('completed', 'failed', 'cancelled') or time.monotonic() > until:
        break
    time.sleep(0.2)
print(value)
