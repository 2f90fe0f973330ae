"""Makes importable what stands beside this file, and what publishes definitions and kills: tests are no package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
for _folder in ("e2e", "fault"):
    sys.path.append(str(Path(__file__).parents[1] / _folder))
