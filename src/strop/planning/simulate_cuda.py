"""Answers `simulate` in a process whose card is simulated: setups in, steps out, as JSON."""

import json
import sys
from dataclasses import asdict

from strop.planning.memory import simulate_here
from strop.planning.step import Setup

if __name__ == "__main__":
    setups = [Setup(**plain) for plain in json.load(sys.stdin)]
    sys.stdout.write(json.dumps([asdict(simulate_here(setup)) for setup in setups]) + "\n")
