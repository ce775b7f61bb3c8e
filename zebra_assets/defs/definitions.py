"""The code location: `-m zebra_assets.defs.definitions` for the dagster CLI, dg and workspace.yaml."""

import warnings

import dagster as dg

from zebra_assets.defs.build import build_defs

# Partitioned asset checks are in preview; dagster is pinned to ~=1.13.27 for them, and the gate does not rely on them.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)

defs = build_defs()
