"""Exports many jobs as a file, which is sent while the jobs are read."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trio_graphile._model.verbatim import encode_shown
from trio_graphile.admin._export import CSV_COLUMNS, csv_line
from trio_graphile.admin._operations.answers import ListedJobAnswer
from trio_graphile.admin._operations.jobs import Export


async def respond_with_file(export: Export, kind: str) -> Response:
    """Return a response that sends an export. Raises mistakes in the request before anything is sent."""
    first = await export.read_page() or []
    return ExportResponse(export, first, CsvFile() if kind == "csv" else JsonFile())


@attrs.define
class JsonFile:
    """The text of `{"jobs": [...], "next": ...}`."""

    media_type = "application/json"
    file_name = "jobs.json"
    _separator: str = ""

    def begin(self) -> str:
        """Return what comes first."""
        return '{"jobs": ['

    def rows(self, jobs: Sequence[ListedJobAnswer]) -> str:
        """Return the text of some jobs."""
        written = [encode_shown(job) for job in jobs]
        text = self._separator + ",\n".join(written) if written else ""
        self._separator = ",\n" if written else self._separator
        return text

    def end(self, after: str | None) -> str:
        """Return what comes last."""
        return f'], "next": {encode_shown(after)}}}'


@attrs.frozen
class CsvFile:
    """A line for each job, without payloads; all is quoted."""

    media_type = "text/csv; charset=utf-8"
    file_name = "jobs.csv"

    def begin(self) -> str:
        """Return what comes first."""
        return csv_line(CSV_COLUMNS)

    def rows(self, jobs: Sequence[ListedJobAnswer]) -> str:
        """Return the text of some jobs."""
        return "".join(csv_line([getattr(job, column) for column in CSV_COLUMNS]) for job in jobs)

    def end(self, _: str | None) -> str:
        """Return what comes last."""
        return ""


class ExportResponse(Response):
    """Sends the pages of an export, each as soon as it is read."""

    def __init__(self, export: Export, first: Sequence[ListedJobAnswer], file: JsonFile | CsvFile) -> None:
        super().__init__(media_type=file.media_type)
        del self.headers["content-length"]
        self.headers["content-disposition"] = f'attachment; filename="{file.file_name}"'
        self._export = export
        self._first = first
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # as ASGI has it
        """Send the export; if the client is gone, `send` raises."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            await _send(send, self._file.begin() + self._file.rows(self._first))
            while (jobs := await self._export.read_page()) is not None:
                await _send(send, self._file.rows(jobs))
            await _send(send, self._file.end(self._export.next))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send(send: Send, text: str) -> None:
    if text:
        await send(
            {"type": "http.response.body", "body": text.encode(errors="backslashreplace"), "more_body": True}
        )
