"""Weights & Biases as a dashboard: a workspace with panels and a report, made from the runs at hand.

The package wandb-workspaces (extra `dashboard`) is imported when it is first used. A workspace is built
without a key and without a network. Saving it and making a report need both.
"""

from __future__ import annotations

from normbench.dashboard.account import check_account, check_installed
from normbench.dashboard.report_page import push_report
from normbench.dashboard.view import View
from normbench.dashboard.workspace import push_workspace, workspace_json

__all__ = ["View", "check_account", "check_installed", "push_report", "push_workspace", "workspace_json"]
