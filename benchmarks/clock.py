"""The clock of a measurement: wall time, or this process's processor time where others use the machine."""

import sys
import time

PROCESSOR = "processor-time"
"""The argument of a script that asks for the second; on one core the two agree on a quiet machine."""
now = time.process_time if PROCESSOR in sys.argv[1:] else time.perf_counter
