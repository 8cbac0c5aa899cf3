# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to a job server for asyncio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .connection import cause, format_server, set_tcp_options
from .errors import ProtocolError, ServerUnavailable
from .protocol import Decoder, Packet

if TYPE_CHECKING:
    import ssl

_READ = 65536  # bytes a read


class Stream:
    """A connection to a job server; each method raises ServerUnavailable when the peer is gone."""

    def __init__(
        self, server: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self._reader = reader
        self._writer = writer
        self._decoder = Decoder()

    @classmethod
    async def open(
        cls, host: str, port: int, context: ssl.SSLContext | None, timeout: float
    ) -> Stream:
        server = format_server(host, port)
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(host, port, ssl=context), timeout
            )
        except asyncio.TimeoutError:
            raise ServerUnavailable(server, "timed out") from None
        except OSError as error:
            raise ServerUnavailable(server, cause(error)) from error
        except UnicodeError:
            raise ServerUnavailable(server, "this is not a valid host name") from None
        try:
            set_tcp_options(writer.get_extra_info("socket"))
        except OSError as error:
            writer.transport.abort()
            raise ServerUnavailable(server, "the connection was reset at once") from error
        return cls(server, reader, writer)

    @property
    def closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return bool(self._writer.transport.is_closing())

    def send(self, data: bytes) -> None:
        """Send data, or keep it until the peer takes more: see drain()."""
        if self.closing:
            raise ServerUnavailable(self.server, "the connection is closed")
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was sent."""
        try:
            await self._writer.drain()
        except OSError as error:
            raise ServerUnavailable(self.server, cause(error)) from error

    async def read(self) -> bytes:
        """Return the next bytes."""
        try:
            data = await self._reader.read(_READ)
        except OSError as error:
            raise ServerUnavailable(self.server, cause(error)) from error
        if not data:
            raise ServerUnavailable(self.server, "the connection was closed by the peer")
        return data

    async def receive(self) -> tuple[Packet, list[bytes]]:
        """Return the next packet. Cancelling loses nothing."""
        try:
            while True:
                packet = self._decoder.next_packet()
                if packet is not None:
                    return packet
                self._decoder.feed(await self.read())
        except ProtocolError as error:
            raise ProtocolError(f"{self.server}: {error}") from None

    async def finish(self) -> None:
        """End our side and wait a moment for the peer to end its own, as Connection.finish does."""
        try:
            if self._writer.can_write_eof():  # which TLS cannot
                self._writer.write_eof()
                await asyncio.wait_for(self._reader.read(), 1)
        except (OSError, asyncio.TimeoutError):
            pass  # it was gone before
        await self.close()

    async def close(self) -> None:
        """Send what is left, for a moment, and close."""
        self._writer.close()
        try:
            await asyncio.wait_for(self._writer.wait_closed(), 1)
        except (OSError, asyncio.TimeoutError):
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()
