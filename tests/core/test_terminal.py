import io
import sys
import time

from strop.core.progress import duration
from strop.core.system.terminal import bars


def test_where_there_is_no_terminal_long_work_prints_lines_with_the_time_left(monkeypatch):
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    with bars(quiet=False, seconds=0.05) as progress:
        for done in range(5):
            progress("rows measured", done, 40)
            time.sleep(0.06)
    lines = log.getvalue().splitlines()
    assert 1 <= len(lines) <= 6
    assert lines[-1].startswith("rows measured, ")
    assert " of 40, " in lines[-1]
    assert lines[-1].endswith("left of this stage")


def test_a_stage_that_reports_nothing_is_seen_to_go_on(monkeypatch):
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    with bars(quiet=False, seconds=0.05):
        time.sleep(0.2)
    assert log.getvalue().startswith("starting, ")


def test_short_and_quiet_work_prints_no_line(monkeypatch):
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    with bars(quiet=False) as progress:
        progress("reading", 1, 2)
    with bars(quiet=True, seconds=0.01) as progress:
        progress("reading", 1, 2)
        time.sleep(0.05)
    assert log.getvalue() == ""


def test_durations_read_as_people_say_them():
    spoken = [duration(s) for s in (0.04, 0.34, 8.25, 9.97, 59.6, 60, 200, 3600, 7500)]
    assert spoken == [
        "40 ms",
        "0.3 s",
        "8.2 s",
        "10 s",
        "1 min",
        "1 min",
        "3 min 20 s",
        "1 h",
        "2 h 5 min",
    ]
