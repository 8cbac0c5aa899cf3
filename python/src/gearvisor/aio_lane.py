# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One connection of the asyncio worker to a job server, and its conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from .aio_stream import Stream
from .errors import ProtocolError
from .job_servers import no_answer
from .jobs import log
from .session import Complaint, Event, Session


class Lane:
    """A connection and its conversation; each method raises ServerUnavailable when it is lost.

    number: which of the worker's lanes it is, from 0. answered: it answered as job servers do.
    """

    def __init__(self, stream: Stream, session: Session, number: int) -> None:
        self.stream = stream
        self.server = stream.server
        self.session = session
        self.number = number
        self.answered = False
        self._received = 0  # bytes
        self.send = stream.send

    async def event(self, seconds: float) -> Event:
        """Return the next event; nothing at all may come for so many seconds."""
        while True:
            before = self._received
            event = await self.event_within(seconds)
            if event is not None:
                return event
            if self._received == before:
                raise no_answer(self.server, seconds)

    async def event_within(self, seconds: float) -> Event | None:
        """Return the next event, or None when none was complete after so many seconds."""
        try:
            event = self.session.next_event()
            if event is None:
                event = await asyncio.wait_for(self._read(), seconds)
        except asyncio.TimeoutError:
            return None
        except ProtocolError as error:
            raise ProtocolError(f"{self.server}: {error}") from None
        if isinstance(event, Complaint):
            log.warning("%s replied with an error: %s", self.server, event.text)
        return event

    async def _read(self) -> Event:
        """Read until there is an event. Cancelling loses nothing."""
        while True:
            data = await self.stream.read()
            self._received += len(data)
            self.session.feed(data)
            event = self.session.next_event()
            if event is not None:
                return event

    def pause(self, functions: Collection[bytes]) -> None:
        """Serve all functions but these; raises nothing: who waits for it finds it lost."""
        data = self.session.pause(functions)
        if data and not self.stream.closing:
            self.send(data)

    def log_unconfirmed(self) -> None:
        """The connection is lost: log the job of which the result may not have arrived."""
        if self.session.unconfirmed is not None:
            log.warning(
                "%s went away before it took the result of job %s; it may run again",
                self.server,
                self.session.unconfirmed.decode(errors="replace"),
            )
