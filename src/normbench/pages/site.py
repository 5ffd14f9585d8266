"""All files of a report, as contents by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from markupsafe import Markup

from normbench import __version__
from normbench.labels import flatten, label
from normbench.pages.cells_view import columns_of, rows_of
from normbench.pages.curve_view import HEIGHT, WIDTH, CurveView, curves
from normbench.pages.names import anchor, runs_file
from normbench.pages.page import Page
from normbench.pages.provenance import dates, facts
from normbench.pages.runs_view import DIGITS, run_table
from normbench.pages.templates import in_lines, render, static
from normbench.record import FAILED, Metrics, Record
from normbench.report.images import IMAGES
from normbench.report.table_layout import caption, corner

INDEX = "index.html"


@dataclass(frozen=True)
class Site:
    """Pages, and what their runs need.

    command_of: the command line of a run, as `normbench info` prints it.
    history_of: the curve of a run by its signature.
    written:    the day, for the foot of every page.
    skipped:    tables that could not be shown, one line each.
    """

    pages: Sequence[Page]
    command_of: Callable[[Record], str]
    history_of: Callable[[str], Sequence[Metrics]]
    written: str = ""
    skipped: Sequence[str] = ()

    def files(self) -> dict[str, str | bytes]:
        """Contents by path below the folder of the report."""
        found: dict[str, str | bytes] = {**static(), INDEX: self._index()}
        for page in self.pages:
            found[f"{page.name}.html"] = self._page(page)
            for drawing in page.drawings:
                if drawing.file is not None:
                    found[_figure(page, drawing.name)] = drawing.file
        found |= self._runs()
        return found

    def _index(self) -> str:
        entries = [
            (page, len({r.signature for r in page.records}), dates(page.records)) for page in self.pages
        ]
        return self._render("index.html", entries=entries, skipped=self.skipped, title="Tables")

    def _page(self, page: Page) -> str:
        return self._render(
            "table.html",
            page=page,
            title=page.heading,
            caption=caption(page.table),
            corner=corner(page.table),
            columns=columns_of(page.table),
            rows=rows_of(page),
            runs=run_table(page),
            facts=facts(page.records),
            images=IMAGES,
            figures=[(drawing, _figure(page, drawing.name)) for drawing in page.drawings],
        )

    def _runs(self) -> dict[str, str]:
        by_file: dict[str, dict[str, Record]] = {}
        on: dict[str, dict[str, Page]] = {}
        for page in self.pages:
            for record in page.records:
                by_file.setdefault(runs_file(record.signature), {}).setdefault(record.signature, record)
                on.setdefault(record.signature, {})[page.name] = page
        return {
            file: self._render(
                "runs.html",
                root="../",
                title=f"Runs {PurePosixPath(file).stem}…",
                runs=[
                    self._run(record, list(on[signature].values()))
                    for signature, record in sorted(records.items())
                ],
                width=WIDTH,
                height=HEIGHT,
            )
            for file, records in sorted(by_file.items())
        }

    def _run(self, record: Record, pages: Sequence[Page]) -> RunView:
        settings = flatten(record.spec)
        provenance = {**record.environment, **flatten(record.provenance)}
        return RunView(
            name=record.signature[:DIGITS],
            anchor=anchor(record.signature),
            signature=record.signature,
            status=record.status,
            reason=str(record.provenance.get("error", "see error.txt")) if record.status == FAILED else "",
            command=self.command_of(record),
            pages=tuple(pages),
            metrics=tuple((name, _number(value)) for name, value in record.metrics.items()),
            curves=tuple(curves(self.history_of(record.signature))),
            settings=in_lines({key: value for key, value in settings.items() if value is not None}),
            provenance=in_lines(provenance),
        )

    def _render(self, template: str, **values: object) -> str:
        return render(
            template, **{"root": "", "written": self.written, "version": __version__, "index": INDEX} | values
        )


@dataclass(frozen=True)
class RunView:
    """A run with its details."""

    name: str
    anchor: str
    signature: str
    status: str
    reason: str
    command: str
    pages: tuple[Page, ...]
    metrics: tuple[tuple[str, str], ...]
    curves: tuple[CurveView, ...]
    settings: Markup
    provenance: Markup


def _figure(page: Page, name: str) -> str:
    return f"figures/{page.name}.{name}.svg"


def _number(value: float | None) -> str:
    return label(None) if value is None else f"{value:.6g}"
