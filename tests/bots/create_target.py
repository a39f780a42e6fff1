"""The command line with a training that copies instead: for tests of what stands around it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bots import cli

if sys.argv[1] == "train":
    words = dict(zip(sys.argv[3::2], sys.argv[4::2], strict=False))
    if os.environ.get("TRAINING_FAILS"):
        print("nightschool: out of memory", file=sys.stderr)
        sys.exit(1)
    output = Path(words["--output"])
    output.mkdir(parents=True, exist_ok=True)
    with (output / "trained.txt").open("a", encoding="utf-8") as file:
        file.write(f"{words['--base']} {len(Path(words['--data']).read_text('utf-8').splitlines())}\n")
    sys.exit(0)
sys.exit(cli.main())
