"""Time RMS normalisation: python -m strop.ops.rms_norm.bench_rms_norm."""

from strop.ops.rms_norm import rms_norm
from strop.ops.rms_norm.cases import TIMED
from strop.testing import bench

if __name__ == "__main__":
    for line in bench.run(rms_norm, "eager", TIMED):
        print(line, flush=True)
