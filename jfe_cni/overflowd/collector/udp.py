"""Datagrams by the hundred: recvmmsg(2), which Python does not have, by ctypes; and how many the kernel had to drop.

What is unsafe in it: the kernel writes where these structures point. They are made once, all in one place, live as long
as the socket, and nothing of them is handed out: what came is copied.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import socket
import struct
import time

import numpy as np

from jfe_cni.errors import HostError
from jfe_cni.overflowd.datagrams import Datagram, address_of
from jfe_cni.overflowd.sockets import remedy, udp_socket

TOGETHER = 256
"""Datagrams of one call."""

LARGEST = 9_216
"""Bytes: exporters keep to the MTU, of jumbo frames at most; what is longer is cut off, and so is told to be."""

BUFFER = 64 * 1024 * 1024
"""Of the socket, asked for: what comes while a batch is decoded waits there."""

_NAME = 28  # struct sockaddr_in6
_CONTROL = 64
_MAPPED = bytes(10) + b"\xff\xff"
SO_RXQ_OVFL, SO_RCVBUFFORCE = 40, 33  # asm-generic/socket.h
_MSG_DONTWAIT, _MSG_TRUNC = 0x40, 0x20


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    """recvmsg(2)"""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iovec", ctypes.POINTER(_Iovec)),
        ("iovec_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    """recvmmsg(2)"""

    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint32))


# The fields that change with each call, of all messages at once: by ctypes, one by one, they take as long as the call.
_CHANGING = np.dtype(
    {
        "names": ["name_length", "control_length", "flags", "length"],
        "formats": [np.uint32, np.uintp, np.int32, np.uint32],
        "offsets": [
            *(getattr(_Msghdr, name).offset for name in ("name_length", "control_length", "flags")),
            _Mmsghdr.length.offset,
        ],
        "itemsize": ctypes.sizeof(_Mmsghdr),
    }
)

_libc = ctypes.CDLL(None, use_errno=True)


class UdpSocket:
    """On one port. `room`: octets that may wait, the kernel's own cost of each datagram included. `dropped`: by the
    kernel, since it was opened, for want of room. `cut_off`: longer than `LARGEST`."""

    def __init__(self, port: int, address: str = "::", *, shared: bool = False) -> None:
        """`address`: of either kind; `::`, all of both, or of IPv4 alone where the kernel has no IPv6. `shared`: with
        other processes that ask for the same, to whom the kernel gives each exporter's datagrams by its address and
        port (socket(7), SO_REUSEPORT). Raises HostError: the port is taken, or may not be; the address is not this
        host's."""
        try:
            self._socket, address = udp_socket(address)
        except OSError as error:
            raise HostError(
                f"UDP port {port} of {address} can't be opened: {error.strerror}", remedy(error.errno, "ss -lunp")
            ) from error
        try:
            if self._socket.family is socket.AF_INET6:
                self._exporter_at, self._exporter_head = (8, 24), b""
            else:
                # Where struct sockaddr_in has it, and as IPv6 would.
                self._exporter_at, self._exporter_head = (4, 8), _MAPPED
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
            self._ask_for_room()
            self._socket.bind((address, port))
        except OSError as error:
            self._socket.close()
            raise HostError(
                f"UDP port {port} can't be opened: {error.strerror}", remedy(error.errno, "ss -lunp")
            ) from error
        self.port: int = self._socket.getsockname()[1]
        # The kernel doubles what it was asked for, for its own cost (socket(7), SO_RCVBUF).
        self.room = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self.dropped = 0
        self.cut_off = 0
        self._data = (ctypes.c_char * (TOGETHER * LARGEST))()
        self._names = (ctypes.c_char * (TOGETHER * _NAME))()
        self._controls = (ctypes.c_char * (TOGETHER * _CONTROL))()
        self._iovecs = (_Iovec * TOGETHER)()
        self._messages = (_Mmsghdr * TOGETHER)()
        octets = (ctypes.c_char * ctypes.sizeof(self._messages)).from_buffer(self._messages)
        self._changing = np.frombuffer(memoryview(octets).cast("B"), _CHANGING)
        self._point()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def receive(self) -> list[Datagram]:
        """What waits, up to `TOGETHER`; nothing, where nothing does. Raises OSError: the socket is closed."""
        count = _libc.recvmmsg(self._socket.fileno(), self._messages, TOGETHER, _MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code in (errno.EAGAIN, errno.EINTR):
                return []
            raise OSError(code, os.strerror(code))
        # By this machine's clock: of each datagram the kernel's own time would cost a control message more.
        at = time.time_ns() // 1_000
        data, names, port = memoryview(self._data).cast("B"), memoryview(self._names).cast("B"), self.port
        changed = self._changing[:count]
        self.cut_off += int(np.count_nonzero(changed["flags"] & _MSG_TRUNC))
        (start, end), head = self._exporter_at, self._exporter_head
        found = [
            Datagram(
                _exporter(head + bytes(names[number * _NAME + start : number * _NAME + end])),
                port,
                at,
                bytes(data[number * LARGEST : number * LARGEST + length]),
            )
            for number, length in enumerate(changed["length"].tolist())
        ]
        if count:
            self._learn_drops(count - 1)
        # The kernel has written how much of these it used.
        changed["name_length"], changed["control_length"] = _NAME, _CONTROL
        return found

    def _ask_for_room(self) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        except PermissionError:
            # Without CAP_NET_ADMIN as much as net.core.rmem_max allows (socket(7)).
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)

    def _point(self) -> None:
        data, names, controls = (ctypes.addressof(each) for each in (self._data, self._names, self._controls))
        for number in range(TOGETHER):
            iovec, header = self._iovecs[number], self._messages[number].header
            iovec.base, iovec.length = data + number * LARGEST, LARGEST
            header.name, header.name_length = names + number * _NAME, _NAME
            header.iovec, header.iovec_count = ctypes.pointer(iovec), 1
            header.control, header.control_length = controls + number * _CONTROL, _CONTROL

    def _learn_drops(self, number: int) -> None:
        """Told with a datagram from the first drop on: how many there were when it was put into the queue."""
        length = self._messages[number].header.control_length
        if length < 20:
            return
        start = number * _CONTROL
        # struct cmsghdr: length, level, type; then the value.
        _, level, kind, dropped = struct.unpack_from("=QiiI", memoryview(self._controls).cast("B"), start)
        if (level, kind) == (socket.SOL_SOCKET, SO_RXQ_OVFL):
            self.dropped = dropped


# Of the exporters that there are; to make an address of bytes takes as long as to copy the datagram.
_exporter = functools.lru_cache(maxsize=4_096)(address_of)
