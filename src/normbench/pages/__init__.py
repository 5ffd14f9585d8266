"""A report as static pages: one folder that opens from disk, without a network.

index.html                        all tables with question and verdict
<citekey>.<table>.<scale>.html    one table: verdict, numbers, figures, claims, runs, provenance
figures/*.svg                     its figures
runs/<digits>.html                runs whose signature starts so: command, metrics, curve, settings
style.css, script.js              the look; sorting and filters. Pages can be read without the script

site = Site(pages, command_of, history_of)
write(site.files(), folder)
"""

from __future__ import annotations

from normbench.pages.folder import write
from normbench.pages.page import Page, of_report, of_runs
from normbench.pages.site import Site

__all__ = ["Page", "Site", "of_report", "of_runs", "write"]
