#!/usr/bin/env python3
"""Reads and writes the registers of the lab's mtty devices, and their migration states, through either interface of VFIO.

  mtty.py NODE|GROUP NAME write TEXT    puts TEXT into the device (it comes back out of its receive register)
  mtty.py NODE|GROUP NAME read COUNT    takes COUNT bytes out
  mtty.py NODE|GROUP NAME state         the number of the migration state
  mtty.py NODE|GROUP NAME set STATE     enters a migration state and leaves the device in it
  mtty.py NODE|GROUP NAME hold SECONDS  keeps the device open
"""
import fcntl, os, struct, sys, time

TYPE = ord(';') << 8


def request(number): return TYPE + 100 + number


class Device:
    def __init__(self, node, name):
        fd = os.open(node, os.O_RDWR)
        if '/devices/' in node:
            self.kept = [os.open('/dev/iommu', os.O_RDWR)]
            fcntl.ioctl(fd, request(18), bytearray(struct.pack('<IIiI', 16, 0, self.kept[0], 0)))
            self.fd = fd
        else:
            container = os.open('/dev/vfio/vfio', os.O_RDWR)
            fcntl.ioctl(fd, request(4), struct.pack('<i', container))
            fcntl.ioctl(container, request(2), 3)
            self.kept = [fd, container]
            # Only with a buffer that can change does ioctl give the kernel's answer, which is the descriptor.
            self.fd = fcntl.ioctl(fd, request(6), bytearray(name.encode() + b'\0'))

    def registers(self):
        info = bytearray(struct.pack('<IIIIQQ', 32, 0, 0, 0, 0, 0))
        fcntl.ioctl(self.fd, request(8), info)
        return struct.unpack('<IIIIQQ', info)[5]

    def feature(self, flags, data=bytes(8)):
        argument = bytearray(struct.pack('<II', 16, flags) + data)
        fcntl.ioctl(self.fd, request(17), argument)
        return bytes(argument[8:])


node, name, command, *rest = sys.argv[1:]
device = Device(node, name)
if command == 'write':
    for byte in rest[0].encode():
        os.pwrite(device.fd, bytes([byte]), device.registers())
elif command == 'read':
    print(''.join(chr(os.pread(device.fd, 1, device.registers())[0]) for _ in range(int(rest[0]))))
elif command == 'state':
    print(struct.unpack('<I', device.feature(1 << 16 | 2)[:4])[0])
elif command == 'set':
    device.feature(1 << 17 | 2, struct.pack('<Ii', int(rest[0]), -1))
elif command == 'hold':
    print('held', flush=True)
    time.sleep(float(rest[0]))
