"""Pages whose examples need an extra are left out where it is missing."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("torch") else ["guide/torch.md"]
