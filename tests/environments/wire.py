"""A wire between two network namespaces, in user space: delay, loss, a narrow band, and a cut.

A program, for it has to enter namespaces: `wire.py FIRST SECOND`. Each of them gets the interface `wire`.
What is written to standard input, such as `delay=0.1 loss=0.05 rate=12500` or `down`, holds from then on in
both directions. The kernel's own netem is not everywhere; its TCP is, and that is what matters.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
LARGEST = 65_536
LONGEST_QUEUE = 2.0
"""How many seconds of data wait for a narrow band; what comes then is dropped, as by a router."""


def open_interface(namespace: str) -> int:
    """Make the interface in a namespace, and come back."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
    if libc.setns(there, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    interface = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(interface, TUNSETIFF, struct.pack("16sH", b"wire", IFF_TUN | IFF_NO_PI))
    libc.setns(home, 0)
    return interface


class Wire:
    """What is on its way, and how it goes."""

    def __init__(self, first: int, second: int) -> None:
        self.other = {first: second, second: first}
        self.settings = {"delay": 0.0, "loss": 0.0, "rate": 0.0}
        self.is_up = True
        self.chance = random.Random(3)
        self.free_at = dict.fromkeys(self.other, 0.0)
        self.under_way: list[tuple[float, int, int, bytes]] = []
        self.count = 0

    def obey(self, words: str) -> None:
        for word in words.split():
            name, _, value = word.partition("=")
            if value:
                self.settings[name] = float(value)
            else:
                self.is_up = word == "up"

    def take(self, source: int) -> None:
        """Take all packets that one side has sent."""
        while True:
            try:
                packet = os.read(source, LARGEST)
            except BlockingIOError:
                return
            if self.is_up and self.chance.random() >= self.settings["loss"]:
                self.send(source, packet)

    def send(self, source: int, packet: bytes) -> None:
        at = time.monotonic()
        if rate := self.settings["rate"]:
            begins = max(at, self.free_at[source])
            if begins - at > LONGEST_QUEUE:
                return
            self.free_at[source] = at = begins + len(packet) / rate
        self.count += 1
        due = at + self.settings["delay"]
        heapq.heappush(self.under_way, (due, self.count, self.other[source], packet))

    def deliver(self) -> float | None:
        """Deliver what is due; return in how many seconds the next packet is."""
        now = time.monotonic()
        while self.under_way and self.under_way[0][0] <= now:
            _, _, target, packet = heapq.heappop(self.under_way)
            if self.is_up:
                with contextlib.suppress(OSError):  # an interface that is not up yet drops it
                    os.write(target, packet)
        return max(0.0, self.under_way[0][0] - now) if self.under_way else None


def main() -> None:
    wire = Wire(open_interface(sys.argv[1]), open_interface(sys.argv[2]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        readable, _, _ = select.select([0, *wire.other], [], [], wire.deliver())
        for number in readable:
            if number != 0:
                wire.take(number)
            elif words := os.read(0, 4096).decode():
                wire.obey(words)
            else:
                return


if __name__ == "__main__":
    main()
