"""Answers `simulate` in a process that pretends to have a card: setups in, steps out, as JSON."""

import json
import sys
from dataclasses import asdict

from strop.planning.memory import simulate_here
from strop.planning.step import Setup

if __name__ == "__main__":
    asked = [Setup(**plain) for plain in json.load(sys.stdin)]
    sys.stdout.write(json.dumps([asdict(simulate_here(setup)) for setup in asked]) + "\n")
