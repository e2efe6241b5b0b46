"""Print the predicted memory of a training step; `python benchmarks/memory_prediction.py SETUP.json`."""

import dataclasses
import json
import sys
from pathlib import Path

from strop.planning.memory import simulate
from strop.planning.step import Setup

if __name__ == "__main__":
    (step,) = simulate(Setup(**json.loads(Path(sys.argv[1]).read_text())))
    print(json.dumps(dataclasses.asdict(step)))
