"""Attempts to break strop: kills, damage, want of room and memory, requests, odd data.

    python -m benchmarks.trials                    # all of them, then benchmarks/results/cpu/trials.json
    python -m benchmarks.trials kills --count 20   # the first 20 of one part
    python -m benchmarks.trials --only kills/train-7

Each trial runs commands in child processes, with a limit of time and memory, and judges how they
end. One line of JSON is written as each ends; what stands there is not run again.
"""
