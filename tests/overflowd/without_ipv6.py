"""A process on a kernel without IPv6."""

from __future__ import annotations

WITHOUT_IPV6 = """
import ctypes, errno, platform, socket, struct, sys

number = {"x86_64": 41, "aarch64": 198}[platform.machine()]
steps = [(0x20, 0, 0, 0), (0x15, 0, 3, number), (0x20, 0, 0, 16), (0x15, 0, 1, socket.AF_INET6),
         (0x06, 0, 0, 0x00050000 | errno.EAFNOSUPPORT), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in steps))
named = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, named, 0, 0) == 0, ctypes.get_errno()
"""
"""Of Python, to begin with: a filter of seccomp(2) by which socket(2) of AF_INET6 is as there, EAFNOSUPPORT."""
